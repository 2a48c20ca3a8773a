"""DeepFool, DDN and L-BFGS against exact distances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.base import MinimumDistanceAttack
from robusteval.attacks.ddn import DDN, odds
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.judge import judge
from robusteval.attacks.lbfgs import LBFGS
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

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


def test_ddn_finds_what_shows_no_gradient_at_the_image() -> None:
    """Units that are off around the image: the pixels that they look at lead to a boundary much closer."""

    class Sleeping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pixels = x.flatten(1)
            seen = pixels[:, :32].sum(1)
            hidden = 60 * (pixels[:, 32:] - 0.3).clamp_min(0).amax(1)
            return torch.stack([torch.full_like(seen, 24.0), seen + hidden], dim=1)

    classifier = Classifier("sleeping", Sleeping(), 2, (1, 8, 8), "")
    images = Images(("a", "b"), torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))
    once, often = (
        judge(classifier, images, run(DDN(norm=Norm.L2, steps=s), classifier, images), Norm.L2, None).l2
        for s in (40, 200)
    )
    assert (once > 4).all()
    assert (often < 1.5).all()
