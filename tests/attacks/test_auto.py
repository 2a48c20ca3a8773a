"""APGD and the ensemble against exact distances; stages and streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ensembles import SMALL, run, streams, strong
from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.apgd import APGD
from robusteval.attacks.auto import Auto
from robusteval.attacks.fab import FAB
from robusteval.attacks.judge import judge
from robusteval.attacks.near_miss import all_targets, second_look
from robusteval.attacks.search.losses import Loss
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_affine_classifiers_are_attacked_at_their_exact_distances(norm: Norm, classes: int) -> None:
    """No witness below the exact distance; one for every image whose distance is 0.9 of the budget, with the box
    active and any number of classes from 2 on."""
    classifier, weight, bias = affine(1, classes=classes)
    images = random_images(1, 16, classifier)
    exact = affine_distances(weight, bias, images, norm)
    budget = float(np.median(exact))
    for attack in strong(norm):
        candidates = run(attack, classifier, images, budget).examples
        verdict = judge(classifier, images, candidates, norm, budget)
        success = verdict.success.numpy()
        assert (exact[success] <= budget * (1 + 1e-5)).all(), attack
        assert success[exact <= 0.9 * budget].all(), attack
        assert torch.equal(candidates[~verdict.success], images.pixels[~verdict.success]), attack


def test_a_relu_network_with_three_classes() -> None:
    """The ensemble decides every image of a network solved by enumeration, but for those within 2 % of the budget."""
    classifier, parameters = two_layer(3)
    images = random_images(3, 12, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = np.array([two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)])
    for budget in (0.05, 0.2, 0.4):
        candidates = run(Auto(norm=Norm.LINF, **SMALL), classifier, images, budget).examples
        success = judge(classifier, images, candidates, Norm.LINF, budget).success.numpy()
        assert success[exact <= 0.98 * budget].all()
        assert not success[exact > budget * (1 + 1e-5)].any()


def test_the_stage_that_fooled_an_image_is_recorded() -> None:
    """On an affine classifier cross-entropy suffices; with saturated logits its gradient is exactly zero, the DLR loss
    is scale-free and takes over."""
    classifier, weight, bias = affine(0)
    images = random_images(0, 12, classifier)
    exact = affine_distances(weight, bias, images, Norm.L2)
    budget = float(np.median(exact)) * 1.02
    stage = run(Auto(norm=Norm.L2, **SMALL), classifier, images, budget).measurements["stage"].numpy()
    assert np.isnan(stage[exact > budget]).all()
    assert (stage[exact <= 0.9 * budget] == 1).all()
    linear = next(m for m in classifier.module.modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        linear.weight.mul_(1e5)
        linear.bias.mul_(1e5)
    found = run(Auto(norm=Norm.L2, **SMALL), classifier, images, budget)
    assert (found.measurements["stage"].numpy()[exact <= 0.9 * budget] == 2).all()
    assert judge(classifier, images, found.examples, Norm.L2, budget).success.numpy()[exact <= 0.9 * budget].all()


@pytest.mark.parametrize("norm", BALLS)
def test_an_image_alone_gives_the_same(norm: Norm) -> None:
    classifier, weight, bias = affine(2)
    images = random_images(2, 4, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    budget = float(np.median(affine_distances(weight, bias, images, norm)))
    shrinking = {"shrinking": True} if norm is Norm.L1 else {}
    for attack in (
        APGD(norm=norm, iterations=15, restarts=2),
        APGD(norm=norm, iterations=15, targets=2, **shrinking),
        Auto(norm=norm, iterations=8, targets=2, queries=20),
    ):
        together = run(attack, classifier, images, budget)
        for i in range(len(images)):
            alone = run(attack, classifier, images.select(torch.tensor([i])), budget)
            torch.testing.assert_close(alone.examples[0], together.examples[i], rtol=0, atol=1e-9)


def test_each_image_has_its_own_budget() -> None:
    classifier, weight, bias = affine(4)
    images = random_images(4, 8, classifier)
    exact = torch.tensor(affine_distances(weight, bias, images, Norm.LINF), dtype=torch.float32)
    budget = torch.where(torch.arange(8) % 2 == 0, 1.1 * exact, 0.9 * exact)
    for attack in (APGD(norm=Norm.LINF, iterations=40), Auto(norm=Norm.LINF, **SMALL)):
        candidates = attack.run(classifier.metered(8), images, budget, streams(images)).examples
        assert (Norm.LINF.size(candidates - images.pixels) <= budget * (1 + 1e-6)).all()
        assert (classifier.predict(candidates).argmax(1) != images.labels).tolist() == [True, False] * 4


@pytest.mark.parametrize("norm", BALLS)
def test_near_misses_get_a_second_look_and_others_cost_nothing(norm: Norm) -> None:
    """Two affine classes: from a witness 5 % beyond the exact distance, a budget 2 % above it is enough."""
    classifier, weight, bias = affine(4, classes=2)
    images = random_images(4, 9, classifier)
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm)).float()
    witnesses = run(FAB(norm=norm), classifier, images, 0.0).examples
    witnesses = images.pixels + 1.05 * (witnesses - images.pixels)
    witnesses[8] = images.pixels[8]
    share = torch.tensor([1.02, 1.02, 1.02, 1.02, 0.97, 0.97, 0.5, 0.5, 1.02])
    view = classifier.metered(9)
    found = second_look(norm, 50, view, images, share * exact, streams(images), witnesses)
    fooled = classifier.predict(found).argmax(1) != images.labels
    assert fooled.tolist() == [True] * 4 + [False] * 5
    assert (norm.size(found.double() - images.pixels.double()) <= share * exact * (1 + 1e-6)).all()
    assert (view.meter.forwards[:6] > 0).all()
    assert (view.meter.forwards[6:] == 0).all()


@pytest.mark.parametrize("norm", BALLS)
def test_near_images_are_tried_on_all_targets_and_others_cost_nothing(norm: Norm) -> None:
    """FAB comes closer than a witness 12 % beyond the exact distance, where that is near; where the classes tried are
    all that there are, nothing is done."""
    classifier, weight, bias = affine(4, classes=5)
    images = random_images(4, 9, classifier)
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm)).float()
    closest = run(FAB(norm=norm), classifier, images, 0.0).examples
    witnesses = images.pixels + 1.12 * (closest - images.pixels)
    witnesses[8] = images.pixels[8]
    radii = exact * torch.tensor([1.05] * 4 + [0.9] * 4 + [1.05])
    view = classifier.metered(9)
    found = all_targets(norm, 50, 4, 1, view, images, radii, streams(images), witnesses)
    near = torch.tensor([True] * 4 + [False] * 5)
    assert torch.equal(classifier.predict(found).argmax(1) != images.labels, near)
    assert (norm.size(found.double() - images.pixels.double()) <= 1.05 * exact + 1e-5)[:4].all()
    assert torch.equal(view.meter.forwards > 0, near)
    nothing = all_targets(norm, 50, 4, 4, view, images, radii, streams(images), witnesses)
    assert torch.equal(nothing, images.pixels)


def test_a_model_without_gradients_or_with_broken_ones_is_no_obstacle() -> None:
    """Where gradients are zero or not a number, the gradient stages fail without harm, and Square remains."""

    class Masked(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module, broken: bool) -> None:
            super().__init__()
            self.inner, self.broken = inner, broken

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            quantised = (pixels * 64).round() / 64
            logits: torch.Tensor = self.inner(quantised + (0 * pixels.sqrt() if self.broken else 0))
            return logits

    classifier, _, _ = affine(3)
    images = random_images(3, 6, classifier)
    inner = classifier.module.network
    assert isinstance(inner, torch.nn.Module)
    for broken in (False, True):
        classifier.module.network = Masked(inner, broken)
        labelled = Images(images.ids, images.pixels, classifier.predict(images.pixels).argmax(1))
        found = run(Auto(norm=Norm.LINF, iterations=5, queries=200), classifier, labelled, 0.2)
        assert found.examples.isfinite().all()
        verdict = judge(classifier, labelled, found.examples, Norm.LINF, 0.2)
        assert torch.equal(verdict.success, found.measurements["stage"].isfinite())
        assert verdict.success.any()


def test_misclassified_and_no_images() -> None:
    classifier, _, _ = affine(5)
    images = random_images(5, 4, classifier)
    wrong = Images(images.ids, images.pixels, (images.labels + 1) % 5)
    for norm in BALLS:
        for attack in strong(norm):
            found = run(attack, classifier, wrong, 0.1).examples
            assert judge(classifier, wrong, found, norm, 0.1).success.all()
            none = images.select(torch.zeros(4, dtype=torch.bool))
            assert run(attack, classifier, none, 0.1).examples.shape == (0, 1, 8, 8)


def test_settings_are_validated() -> None:
    with pytest.raises(ValueError, match="expected norm l1 with shrinking for apgd, got l2"):
        APGD(norm=Norm.L2, shrinking=True)
    with pytest.raises(ValueError, match="loss"):
        APGD(norm=Norm.L2, loss=Loss.LOGITS_L2)
    assert APGD(norm=Norm.L2, loss="dlr").loss is Loss.DLR
    with pytest.raises(ValueError, match="queries"):
        Auto(norm=Norm.L2, queries=0)
