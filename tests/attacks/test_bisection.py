"""The minimum distance of fixed-budget attacks, against exact distances and against their own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacking import BOUNDED, make, run, streams
from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.judge import judge
from robusteval.attacks.pgd import PGD
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm, column
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Ray(FixedBudgetAttack):
    """Moves straight towards white as far as the budget allows: its minimum distance is known along that line."""

    name = "ray"
    summary = "a step towards white"
    norms = BALLS

    def within(self, classifier: Classifier, images: Images, budget: torch.Tensor, streams: Streams) -> Candidates:
        way = 1 - images.pixels
        share = (budget / self.norm.size(way)).clamp(max=1.0)
        return Candidates(images.pixels + column(share, way) * way)


@pytest.mark.parametrize("norm", BALLS)
def test_a_ray_is_bisected_to_the_point_where_it_crosses(norm: Norm) -> None:
    classifier, weight, bias = affine(5)
    images = random_images(5, 40, classifier)
    found = judge(classifier, images, run(Ray(norm=norm, minimum_distance=True), classifier, images, None), norm, None)
    x = images.pixels.double().flatten(1).numpy()
    start, slope = x @ weight.T + bias, (1 - x) @ weight.T
    labels = images.labels.numpy()
    rows = np.arange(len(x))
    gap = start[rows, labels][:, None] - start
    speed = slope - slope[rows, labels][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(speed > 0, gap / speed, np.inf)
    crossing[rows, labels] = np.inf
    share = crossing.min(1)
    length = norm.size(1 - images.pixels.double()).numpy()
    crosses = share < 0.999
    assert crosses.sum() > 10
    distances = getattr(found, norm.value).numpy()
    assert np.isinf(distances[share > 1.001]).all()
    np.testing.assert_array_less((share * length)[crosses] * (1 - 1e-5), distances[crosses])
    np.testing.assert_allclose(distances[crosses], (share * length)[crosses], rtol=0.01)


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_pgd_by_bisection_is_close_to_the_exact_distance(norm: Norm, loss: str) -> None:
    classifier, weight, bias = affine(1)
    images = random_images(1, 16, classifier)
    exact = affine_distances(weight, bias, images, norm)
    attack = PGD(norm=norm, steps=40, step=0.1, loss=loss, minimum_distance=True)
    found = getattr(judge(classifier, images, run(attack, classifier, images, None), norm, None), norm.value).numpy()
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found / exact) <= 1.02
    assert np.quantile(found / exact, 0.75) <= 1.3


def test_a_relu_network_solved_by_enumeration() -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 6, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = np.array([two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)])
    attack = PGD(norm=Norm.LINF, steps=40, step=0.1, restarts=5, loss="margin", minimum_distance=True)
    found = judge(classifier, images, run(attack, classifier, images, None), Norm.LINF, None).linf.numpy()
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found / exact) <= 1.05


@pytest.mark.parametrize("name", sorted(n for n in BOUNDED if ATTACKS[n].batch_independent and n != "transfer"))
def test_an_image_alone_is_searched_as_in_company(name: str) -> None:
    small = {"auto": {"iterations": 5, "queries": 20}, "square": {"queries": 50}, "apgd": {"iterations": 10}}
    noise = {"lrc": {"samples": 20}, "uniform-noise": {"samples": 20}, "gaussian-noise": {"samples": 20}}
    norm = ATTACKS[name].norms[-1]
    attack = make(name, norm, minimum_distance=True, **(small | noise).get(name, {}))
    classifier, _, _ = affine(2)
    images = random_images(2, 4, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    together = run(attack, classifier, images, None)
    for i in range(len(images)):
        alone = run(attack, classifier, images.select(torch.tensor([i])), None)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


def test_a_model_that_never_errs_returns_the_images_and_decided_images_cost_nothing_more() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 3, classifier)
    linear = next(m for m in classifier.module.modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        linear.bias[int(images.labels[0])] += 1e3
    images = images.select(torch.tensor([0]))
    view = classifier.metered(1)
    attack = PGD(norm=Norm.L2, steps=5, minimum_distance=True)
    found = attack.run(view, images, None, streams(images)).examples
    assert torch.equal(found, images.pixels)
    assert view.meter.forwards.tolist() == [4 * (5 + 1 + 1)], "four radii of five steps, and one look at each end"


def test_the_setting_belongs_to_fixed_budget_attacks_whose_target_decides() -> None:
    assert not PGD(norm=Norm.L2, minimum_distance=True).fixed_budget
    assert PGD(norm=Norm.L2, minimum_distance=True).label == "pgd-l2-distance"
    with pytest.raises(ValueError, match="only the target"):
        make("transfer", Norm.L2, minimum_distance=True)
    with pytest.raises(ValueError, match="Extra inputs"):
        make("deepfool", Norm.L2, minimum_distance=True)
