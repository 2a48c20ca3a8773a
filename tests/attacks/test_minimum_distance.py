"""DeepFool, DDN, L-BFGS and the searches that they share, against exact distances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.base import MinimumDistanceAttack
from robusteval.attacks.ddn import DDN, odds
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.fmn import among_largest, thin
from robusteval.attacks.judge import judge
from robusteval.attacks.lbfgs import LBFGS
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.solvers import minimise_in_box
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

Floats = NDArray[np.float64]

ATTACKS: list[MinimumDistanceAttack] = [
    DeepFool(norm=Norm.L2),
    DeepFool(norm=Norm.LINF),
    DDN(norm=Norm.L2),
    LBFGS(norm=Norm.L2, searches=8),
]
FACTORS = {"deepfool": (1.05, 1.3), "ddn": (1.05, 1.5), "lbfgs": (1.2, 5.0)}
"""How far above the exact distance an attack may end, in the median and in the worst of 16 images."""

every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=[a.label for a in ATTACKS])


def run(attack: MinimumDistanceAttack, classifier: Classifier, images: Images) -> Tensor:
    streams = Streams.for_images(0, "test", images.ids, images.pixels)
    return attack.run(classifier.metered(len(images)), images, None, streams).examples


@every_attack
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("classes", [2, 5])
def test_distances_are_the_exact_ones_up_to_a_factor(attack: MinimumDistanceAttack, seed: int, classes: int) -> None:
    """A third of the pixels lie on the walls of the box, and the classes are permuted."""
    classifier, weight, bias = affine(seed, classes=classes)
    images = random_images(seed, 16, classifier)
    exact = affine_distances(weight, bias, images, attack.norm)
    found = getattr(judge(classifier, images, run(attack, classifier, images), attack.norm, None), attack.norm.value)
    usual, worst = FACTORS[attack.name]
    assert (found.numpy() >= exact * (1 - 1e-5)).all()
    assert np.median(found.numpy() / exact) <= usual
    assert (found.numpy() <= worst * exact).all()


def test_the_exact_distances_of_a_relu_network_are_never_undercut() -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 6, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = [two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)]
    for attack in ATTACKS:
        found = judge(classifier, images, run(attack, classifier, images), Norm.LINF, None).linf
        assert (found.numpy() >= np.array(exact) * (1 - 1e-5)).all()


@every_attack
def test_an_image_alone_gives_the_same_as_in_a_batch(attack: MinimumDistanceAttack) -> None:
    classifier, _, _ = affine(2)
    images = random_images(2, 6, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    together = run(attack, classifier, images)
    assert torch.equal(together, run(attack, classifier, images))
    for i in range(len(images)):
        alone = run(attack, classifier, images.select(torch.tensor([i])))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


@every_attack
def test_misclassified_images_come_back_as_they_are(attack: MinimumDistanceAttack) -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 6, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    labels = images.labels.clone()
    labels[::2] = (labels[::2] + 1) % 5
    mixed = Images(images.ids, images.pixels, labels)
    found = run(attack, classifier, mixed)
    assert torch.equal(found[::2], images.pixels[::2])
    torch.testing.assert_close(found[1::2], run(attack, classifier, images)[1::2], rtol=0, atol=1e-9)


@every_attack
def test_extreme_images_and_classes_out_of_reach(attack: MinimumDistanceAttack) -> None:
    """The model never errs in the box, nor does the one whose logits are constant: nothing is found, nothing breaks."""
    classifier, _, _ = affine(0)
    linear = next(m for m in classifier.module.modules() if isinstance(m, nn.Linear))
    pixels = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8), torch.full((1, 8, 8), 0.5)])
    images = Images(("a", "b", "c"), pixels, torch.zeros(3, dtype=torch.int64))
    with torch.no_grad():
        linear.bias[0] = 1e3
    for scale in (1.0, 0.0):
        with torch.no_grad():
            linear.weight.mul_(scale)
        found = run(attack, classifier, images)
        assert found.isfinite().all()
        assert ((found >= 0) & (found <= 1)).all()
        assert not judge(classifier, images, found, attack.norm, None).success.any()


@every_attack
def test_an_extreme_image_is_left_along_its_walls(attack: MinimumDistanceAttack) -> None:
    """Black and white images: every pixel can move one way only."""
    classifier, weight, bias = affine(4)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(16, 1, 8, 8, generator=generator).round()
    images = Images(tuple(map(str, range(16))), pixels, classifier.predict(pixels).argmax(1))
    exact = affine_distances(weight, bias, images, attack.norm)
    found = getattr(judge(classifier, images, run(attack, classifier, images), attack.norm, None), attack.norm.value)
    assert (found.numpy() >= exact * (1 - 1e-5)).all()
    assert np.median(found.numpy() / exact) <= FACTORS[attack.name][0]


def test_deepfool_counts_what_it_evaluates_and_drops_fooled_images() -> None:
    classifier, _ = two_layer(3)
    images = random_images(3, 30, classifier)
    view = classifier.metered(30)
    streams = Streams.for_images(0, "test", images.ids, images.pixels)
    found = DeepFool(norm=Norm.L2, steps=12, refine=2).run(view, images, None, streams).examples
    fooled = judge(classifier, images, found, Norm.L2, None).success
    steps = view.meter.backwards / 3
    assert torch.equal(steps, steps.round())
    assert torch.equal(view.meter.forwards, 1 + 2 * steps + 2 + 2 * fooled)
    assert len(steps[fooled].unique()) > 1, "each image takes the steps that it needs"
    assert steps[fooled].max() <= 10


def test_ddn_counts_what_it_evaluates() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 8, classifier)
    view = classifier.metered(8)
    streams = Streams.for_images(0, "test", images.ids, images.pixels)
    DDN(norm=Norm.L2, steps=30, refine=4).run(view, images, None, streams)
    assert view.meter.forwards.tolist() == [36.0] * 8
    assert view.meter.backwards.tolist() == [30.0] * 8


def test_lbfgs_books_each_evaluation_to_its_image() -> None:
    """An image costs the same alone as in a batch, whose solvers end at different times."""
    classifier, _, _ = affine(0)
    images = random_images(0, 4, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    attack = LBFGS(norm=Norm.L2, searches=4)

    def cost(some: Images) -> list[float]:
        view = classifier.metered(len(some))
        attack.run(view, some, None, Streams.for_images(0, "test", some.ids, some.pixels))
        assert torch.equal(view.meter.forwards, view.meter.backwards + 3 + attack.refine)
        return view.meter.backwards.tolist()

    together = cost(images)
    assert together == list(itertools.chain(*(cost(images.select(torch.tensor([i]))) for i in range(4))))
    assert len(set(together)) > 1


def test_lbfgs_moves_towards_the_class_that_it_is_told() -> None:
    """With a random target the witness may lie in another class than with the second-best one, and is not closer."""
    classifier, _, _ = affine(1)
    images = random_images(1, 16, classifier)
    near, drawn = (
        judge(
            classifier, images, run(LBFGS(norm=Norm.L2, target=target, searches=6), classifier, images), Norm.L2, None
        )
        for target in ("second-best", "random")
    )
    assert drawn.success.all()
    assert (near.predicted != drawn.predicted).any()
    assert near.l2.median() <= drawn.l2.median()


def test_the_odds_point_where_the_cross_entropy_does_and_do_not_vanish_with_it() -> None:
    labels = torch.tensor([0, 2])
    logits = torch.tensor([[1.0, 0.5, -1.0], [0.3, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    (own,) = torch.autograd.grad(odds(logits, labels).sum(), logits)
    (other,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    torch.testing.assert_close(Norm.L2.steepest(own), Norm.L2.steepest(other))
    confident = torch.tensor([[200.0, 0.0, -1.0]], requires_grad=True)
    (own,) = torch.autograd.grad(odds(confident, labels[:1]).sum(), confident)
    assert own[0, 0] == -1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shrinking_keeps_witnesses_and_approaches_the_boundary(dtype: torch.dtype) -> None:
    classifier, weight, bias = affine(0)
    images = random_images(0, 40, classifier).to("cpu", dtype)
    classifier = classifier.to("cpu", dtype)
    far = random_images(9, 40, classifier).pixels.to(dtype)
    wrong = classifier.predict(far).argmax(1) != images.labels
    assert 5 < wrong.sum() < 40
    view = classifier.metered(40)
    near = shrink(view, images, far, steps=8)
    assert torch.equal(near[~wrong], far[~wrong])
    assert (classifier.predict(near).argmax(1) != images.labels)[wrong].all()
    for norm in BALLS:
        assert (norm.size(near - images.pixels) <= norm.size(far - images.pixels)).all()
    assert view.meter.forwards[wrong].tolist() == [10.0] * int(wrong.sum())
    assert view.meter.forwards[~wrong].tolist() == [2.0] * int((~wrong).sum())
    # Where the segment crosses into the first other class, from the affine map itself.
    x, v = (p.double().flatten(1).numpy() for p in (images.pixels, far - images.pixels))
    own = images.labels.numpy()
    slope, lead = v @ weight.T, x @ weight.T + bias
    slope, lead = slope - slope[range(40), own][:, None], lead - lead[range(40), own][:, None]
    crossing = np.where(slope > 0, -lead / np.where(slope > 0, slope, 1), np.inf)
    crossing[range(40), own] = np.inf
    reached = (Norm.L2.size(near - images.pixels) / Norm.L2.size(far - images.pixels)).double().numpy()
    first = crossing.min(1)[wrong.numpy()]
    assert (reached[wrong.numpy()] >= first - 1e-6).all()
    # Bisection would leave some 2^-9 of the segment.
    assert np.median(reached[wrong.numpy()] / first) < 1 + 1e-4


def test_shrinking_without_a_slope_still_halves() -> None:
    """A model that shows decisions only: the margin is -1 or 1, and the search is a bisection."""

    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            right = (x.flatten(1).mean(1) < 0.3).to(x.dtype)
            return torch.stack([right, 1 - right], dim=1)

    linear, _, _ = affine(0, classes=2)
    classifier = Classifier("decides", Decides(), 2, linear.input_shape, "")
    images = Images(("a",), torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    near = shrink(classifier, images, torch.ones(1, 1, 8, 8), steps=12)
    assert 0.3 <= near.mean() < 0.3 + 1e-3


def test_solvers_together_find_what_each_finds_alone_and_stay_in_the_box() -> None:
    """Quadratics with centres inside and outside the box: the minimiser is the nearest point of it."""
    rng = np.random.default_rng(0)
    centres, widths = rng.uniform(-0.5, 1.5, (7, 5)), rng.uniform(1, 50, (7, 5))
    sizes: list[int] = []

    def evaluate(rows: NDArray[np.int64], points: Floats) -> tuple[Floats, Floats]:
        sizes.append(len(rows))
        offset = points - centres[rows]
        return (widths[rows] * offset**2).sum(1), 2 * widths[rows] * offset

    found = minimise_in_box(evaluate, np.full((7, 5), 0.5), 100)
    np.testing.assert_allclose(found, centres.clip(0, 1), atol=1e-4)
    assert sizes[0] == 7
    assert sizes == sorted(sizes, reverse=True)


def test_an_evaluation_that_fails_ends_all_solvers() -> None:
    calls = itertools.count()

    def evaluate(rows: NDArray[np.int64], points: Floats) -> tuple[Floats, Floats]:
        if next(calls) == 1:
            raise MemoryError("no room")
        return (points**2).sum(1), 2 * points

    with pytest.raises(MemoryError, match="no room"):
        minimise_in_box(evaluate, np.random.default_rng(0).uniform(size=(5, 3)), 100)


def test_a_model_without_a_gradient_somewhere_gives_finite_images() -> None:
    """Saturated: the logits do not move until far from the image."""

    class Saturated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            far = (x.flatten(1).mean(1) - 0.9).clamp_min(0)
            return torch.stack([torch.full_like(far, 0.01), far], dim=1)

    linear, _, _ = affine(0, classes=2)
    module = nn.Sequential(Saturated())
    classifier = Classifier("saturated", module, 2, linear.input_shape, "")
    images = Images(("a",), torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64))
    for attack in ATTACKS:
        found = run(attack, classifier, images)
        assert found.isfinite().all()
        assert torch.equal(found, images.pixels)


def test_settings_are_validated() -> None:
    assert DDN().norm is Norm.L2  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="expected norm in l2, linf for deepfool, got l1"):
        DeepFool(norm=Norm.L1)
    for wrong in ({"gamma": 1.0}, {"steps": 0}, {"initial": 2}):
        with pytest.raises(ValueError):
            DDN(**wrong)
    with pytest.raises(ValueError):
        LBFGS(norm=Norm.L2, target="least-likely")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fmn_puts_back_changes_that_are_not_needed(dtype: torch.dtype) -> None:
    """The class changes with any 3 of 64 pixels at 1: of a witness of 20 the search keeps 3."""
    pixels = torch.zeros(2, 1, 8, 8, dtype=dtype)
    witnesses = pixels.clone().flatten(1)
    witnesses[0, 10:30] = 1
    linear = nn.Linear(64, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(64), torch.ones(64)]))
        linear.bias.copy_(torch.tensor([0.0, -2.5]))
    model = make_classifier("three", nn.Sequential(nn.Flatten(), linear), (1, 8, 8)).to("cpu", dtype)
    images = Images(("a", "b"), pixels, torch.zeros(2).long())
    view = model.metered(2)
    found = thin(view, images, witnesses.view_as(pixels), 6)
    assert Norm.L0.size(found - pixels).tolist() == [3, 0]
    assert view.meter.forwards.tolist() == [6, 6]


def test_largest_counts_ties_once() -> None:
    changes = torch.tensor([[1.0, -1.0, 1.0, 0.0], [0.1, -0.3, 0.2, 0.0]]).view(2, 1, 2, 2)
    assert among_largest(changes, torch.tensor([2, 1])).flatten(1).tolist() == [
        [True, True, False, False],
        [False, True, False, False],
    ]
