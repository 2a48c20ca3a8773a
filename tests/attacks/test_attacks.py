"""Every registered attack against classifiers whose exact distances are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from attack_cases import ATTACK_CASES, case_of
from attacking import BOUNDED, CASES, COMPILED, IDS, fast, find, make, misses, run, streams
from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks import ATTACKS
from robusteval.attacks.base import Candidates, FixedBudgetAttack, MinimumDistanceAttack
from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.judge import judge
from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.ball import Ball
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class NothingWithin(FixedBudgetAttack):
    """Returns its images, given a budget."""

    name = "nothing-within"
    title = "Nothing"
    summary = "no attack at all"
    norms = tuple(Norm)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        return Candidates(images.pixels.clone())


class NothingClosest(MinimumDistanceAttack):
    """Returns its images, given none."""

    name = "nothing-closest"
    title = "Nothing"
    summary = "no attack at all"
    norms = tuple(Norm)

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        return Candidates(images.pixels.clone())


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_a_case(name: str) -> None:
    assert case_of(name).must


def test_every_case_is_of_an_attack() -> None:
    assert ATTACK_CASES.keys() <= ATTACKS.keys()


@pytest.mark.parametrize(("name", "norm"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_attack_reaches_what_its_case_demands(name: str, norm: Norm, seed: int) -> None:
    """And none of its adversarial examples is closer than the exact distance."""
    assert not misses(make(name, norm), case_of(name).must, seed)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_does_nothing_fails_every_case(name: str) -> None:
    nothing = NothingWithin if name in BOUNDED else NothingClosest
    for norm in ATTACKS[name].norms:
        for seed in (0, 1):
            case = case_of(name)
            assert len(misses(nothing(norm=norm), case.must, seed)) == len(case.must)


def test_a_method_without_a_case_is_told_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"entry for 'mine' in ATTACK_CASES of tests/attack_cases\.py: AttackCase"):
        case_of("mine")


@pytest.mark.parametrize("name", [name for name, norm in CASES if norm is Norm.LINF])
def test_a_relu_network_solved_by_enumeration(name: str) -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 6, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = [two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)]
    attack = make(name, Norm.LINF)
    if name == "autoattack":
        with pytest.raises(UnsupportedError, match="at least 4 classes"):
            run(attack, classifier, images, 0.1)
        return
    for budget in [0.05, 0.2, 0.4] if name in BOUNDED else [None]:
        verdict = judge(classifier, images, run(attack, classifier, images, budget), Norm.LINF, budget)
        assert (verdict.linf.numpy() >= np.array(exact) * (1 - 1e-5)).all()


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in COMPILED])
def test_an_attack_follows_what_it_says(name: str) -> None:
    """The report compares those that follow gradients with those that do not."""
    classifier, _, _ = affine(0)
    classifier, images = classifier.metered(4), random_images(0, 4, classifier)
    attack = fast(name, COMPILED.get(name, ATTACKS[name].norms[0]))
    radii = images.pixels.new_full((4,), 1e-3) if name in BOUNDED else None
    find(attack, classifier, images, radii, streams(images))
    assert (classifier.meter.backwards > 0).all() == (attack.follows != "outputs")


@pytest.mark.parametrize(("name", "norm"), CASES, ids=IDS)
def test_batches_and_seeds(name: str, norm: Norm) -> None:
    """The same seed gives the same images, and leaves torch's own generator alone; where the attack promises it, an
    image alone gives the same too."""
    classifier, weight, bias = affine(2)
    # Numba would be half a minute about another dtype.
    dtype = torch.float32 if name in COMPILED else torch.float64
    images = random_images(2, 6, classifier).to("cpu", dtype)
    classifier = classifier.to("cpu", dtype)
    attack = fast(name, norm)
    budget = float(np.median(affine_distances(weight, bias, images, norm))) if name in BOUNDED else None
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    together = run(attack, classifier, images, budget)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(together, run(attack, classifier, images, budget))
    if attack.batch_independent:
        for i in (0, 3, 5):
            alone = run(attack, classifier, images.select(torch.tensor([i])), budget)
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] in BOUNDED])
def test_every_image_has_its_own_budget(name: str, norm: Norm) -> None:
    classifier, weight, bias = affine(2)
    images = random_images(2, 6, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    exact = torch.from_numpy(affine_distances(weight, bias, images, norm))
    radii = exact * torch.linspace(0.3, 1.5, 6)
    attack = make(name, norm)
    found = attack.run(classifier.metered(6), images, radii, streams(images)).examples
    assert (norm.size(found - images.pixels) <= radii * (1 + 1e-6)).all()
    assert (classifier.predict(found[:3]).argmax(1) == images.labels[:3]).all()
    if case_of(name).must[0].times <= 1.2:
        assert (classifier.predict(found[4:]).argmax(1) != images.labels[4:]).all()
    if attack.batch_independent:
        for i in (1, 4):
            alone = run(attack, classifier, images.select(torch.tensor([i])), float(radii[i]))
            torch.testing.assert_close(alone[0], found[i], rtol=0, atol=1e-9)


def test_already_extreme_images_and_unreachable_classes() -> None:
    """A classifier that never errs in the box: no attack may claim a witness, none may crash."""
    classifier, _, _ = affine(0)
    linear = next(m for m in classifier.module.modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        linear.bias[0] = 1e3
    images = Images(("a", "b"), torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]), torch.zeros(2).long())
    for name, norm in CASES:
        budget = 0.3 if name in BOUNDED else None
        verdict = judge(classifier, images, run(fast(name, norm), classifier, images, budget), norm, budget)
        assert not verdict.success.any(), name


def test_pgd_counts_what_it_evaluates() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 8, classifier)
    view = classifier.metered(len(images))
    PGD(norm=Norm.LINF, steps=10, restarts=2).run(view, images, torch.full((8,), 1e-7), streams(images))
    assert view.meter.forwards.tolist() == [22.0] * 8
    assert view.meter.backwards.tolist() == [20.0] * 8
    view = classifier.metered(len(images))
    PGD(norm=Norm.LINF, steps=10, restarts=2).run(view, images, torch.full((8,), 0.5), streams(images))
    assert (view.meter.forwards < 22).all(), "fooled images must leave the batch"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("radius", [1e-3, 8 / 255, 0.5, 3.0])
def test_a_ball_keeps_its_budget_to_the_last_bit_and_its_inside_as_it_is(
    norm: Norm, radius: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(20, 3, 8, 8, generator=generator, dtype=dtype)
    ball = Ball.around(centers, norm, radius)
    far = ball.nearest(centers + 5 * torch.randn(centers.shape, generator=generator, dtype=dtype))
    assert (norm.size(far.double() - centers.double()) <= radius * (1 + 1e-6)).all()
    assert ((far >= 0) & (far <= 1)).all()
    inside = centers + norm.scale_to(far - centers, 0.5 * radius).clamp(-centers, 1 - centers)
    torch.testing.assert_close(ball.nearest(inside), inside, rtol=0, atol=1e-6)


def test_every_attack_describes_itself() -> None:
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert attack.summary
        assert attack.__doc__
        assert attack.norms


def test_settings_are_validated() -> None:
    with pytest.raises(ValueError, match="expected norm in l2, linf for deepfool, got l1"):
        DeepFool(norm=Norm.L1)
    with pytest.raises(ValueError, match="stepz"):
        PGD(norm=Norm.L2, stepz=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError):
        PGD(norm=Norm.L2).steps = 4  # type: ignore[misc]
