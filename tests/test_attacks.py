"""Every registered attack against classifiers whose exact distances are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks import ATTACKS
from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack
from robusteval.attacks.lrc import LRC, correlated
from robusteval.attacks.pgd import PGD
from robusteval.audit.judge import judge
from robusteval.classifier import Classifier
from robusteval.errors import UnsupportedError
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams

SMALL: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 40, "step": 0.1, "restarts": 3, "loss": "margin"},
    "carlini-wagner": {"steps": 300, "binary_search_steps": 7, "step_size": 0.03},
    "boundary": {"steps": 1500},
    "autoattack": {"iterations": 20, "queries": 100},
}
FACTORS = {"deepfool": (1.05, 1.3), "carlini-wagner": (1.15, 5.0), "boundary": (4.0, 20.0)}
"""How far above the exact distance a minimum-distance attack may end, in the median and in the worst of 16 images."""
STRONG = {"pgd", "transfer", "autoattack"}
"""Fixed-budget attacks that must succeed where the exact distance is at most 0.85 of the budget."""

CASES = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms]
IDS = [f"{name}-{norm.value}" for name, norm in CASES]


def make(name: str, norm: Norm) -> Attack:
    return ATTACKS[name](norm=norm, **SMALL.get(name, {}))


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: Attack, classifier: Classifier, images: Images, budget: float | None, seed: int = 0) -> torch.Tensor:
    return attack.run(classifier.metered(len(images)), images, budget, streams(images, seed))


@pytest.mark.parametrize(("name", "norm"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_witness_is_closer_than_the_exact_distance(name: str, norm: Norm, seed: int) -> None:
    classifier, weight, bias = affine(seed)
    images = random_images(seed, 16, classifier)
    exact = affine_distances(weight, bias, images, norm)
    attack = make(name, norm)
    budget = float(np.median(exact)) if attack.fixed_budget else None
    candidates = run(attack, classifier, images, budget)
    assert candidates.shape == images.pixels.shape
    assert candidates.dtype == images.pixels.dtype
    assert candidates.isfinite().all()
    assert ((candidates >= 0) & (candidates <= 1)).all()
    if budget is not None:
        size = norm.size(candidates.double() - images.pixels.double())
        assert (size <= budget * (1 + 1e-6)).all()
    verdict = judge(classifier, images, candidates, norm, budget)
    found = getattr(verdict, norm.value).numpy()
    assert (found >= exact * (1 - 1e-5)).all()
    if not attack.fixed_budget:
        usual, worst = FACTORS[name]
        assert np.median(found / exact) <= usual
        assert (found <= worst * exact).all()
    if name in STRONG and budget is not None:
        assert verdict.success.numpy()[exact <= 0.85 * budget].all()


@pytest.mark.parametrize("name", sorted({n for n, a in ATTACKS.items() if Norm.LINF in a.norms}))
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
    for budget in [0.05, 0.2, 0.4] if attack.fixed_budget else [None]:
        verdict = judge(classifier, images, run(attack, classifier, images, budget), Norm.LINF, budget)
        assert (verdict.linf.numpy() >= np.array(exact) * (1 - 1e-5)).all()


@pytest.mark.parametrize(("name", "norm"), CASES, ids=IDS)
def test_batches_and_seeds(name: str, norm: Norm) -> None:
    """The same seed gives the same pictures; where the attack promises it, an image alone gives the same too."""
    classifier, weight, bias = affine(2)
    images = random_images(2, 6, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    attack = make(name, norm)
    budget = float(np.median(affine_distances(weight, bias, images, norm))) if attack.fixed_budget else None
    together = run(attack, classifier, images, budget)
    assert torch.equal(together, run(attack, classifier, images, budget))
    if attack.batch_independent:
        for i in range(len(images)):
            alone = run(attack, classifier, images.select(torch.tensor([i])), budget)
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


def test_a_random_state_elsewhere_is_left_alone() -> None:
    classifier, _, _ = affine(2)
    images = random_images(2, 3, classifier)
    for name, norm in CASES:
        torch.manual_seed(7)
        expected = torch.random.get_rng_state()
        run(make(name, norm), classifier, images, 0.1 if ATTACKS[name].fixed_budget else None)
        assert torch.equal(torch.random.get_rng_state(), expected), name


def test_already_extreme_images_and_unreachable_classes() -> None:
    """A classifier that never errs in the box: no attack may claim a witness, none may crash."""
    classifier, _, _ = affine(0)
    linear = next(m for m in classifier.module.modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        linear.bias[0] = 1e3
    images = Images(("a", "b"), torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]), torch.zeros(2).long())
    for name, norm in CASES:
        budget = 0.3 if ATTACKS[name].fixed_budget else None
        verdict = judge(classifier, images, run(make(name, norm), classifier, images, budget), norm, budget)
        assert not verdict.success.any(), name


def test_pgd_counts_what_it_evaluates() -> None:
    classifier, _, _ = affine(0)
    images = random_images(0, 8, classifier)
    view = classifier.metered(len(images))
    PGD(norm=Norm.LINF, steps=10, restarts=2).run(view, images, 1e-7, streams(images))
    assert view.meter.forwards.tolist() == [22.0] * 8
    assert view.meter.backwards.tolist() == [20.0] * 8
    view = classifier.metered(len(images))
    PGD(norm=Norm.LINF, steps=10, restarts=2).run(view, images, 0.5, streams(images))
    assert (view.meter.forwards < 22).all(), "fooled images must leave the batch"


def test_lrc_noise_has_the_covariance_of_the_paper() -> None:
    """Over n draws an entry of the sample covariance has a standard error of at most sqrt(2 / n): 5 of them."""
    n, zeta = 40_000, 2.0
    white = torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = correlated(white, zeta).flatten(1)
    places = [(r, c) for r in range(3) for c in range(3)]
    expected = torch.tensor(
        [
            [(1.0 if a == b else 0.5) * math.exp(-math.dist(p, q) / zeta) for b in range(2) for q in places]
            for a in range(2)
            for p in places
        ],
        dtype=torch.float64,
    )
    assert (z.T @ z / n - expected).abs().max() < 5 * math.sqrt(2 / n)


def test_lrc_refuses_pictures_it_cannot_hold() -> None:
    with pytest.raises(UnsupportedError, match="224x224"):
        correlated(torch.zeros(1, 3, 224, 224), 8.0)
    assert LRC(norm=Norm.L2).zeta == 8.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", list(Norm))
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
    with pytest.raises(ValueError, match="expected norm in l2, linf for pgd, got l1"):
        PGD(norm=Norm.L1)
    with pytest.raises(ValueError, match="stepz"):
        PGD(norm=Norm.L2, stepz=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError):
        PGD(norm=Norm.L2).steps = 4  # type: ignore[misc]
