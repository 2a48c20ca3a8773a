"""FAB, Square, and the projection on a hyperplane within the box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.base import Attack
from robusteval.attacks.fab import FAB
from robusteval.attacks.search.hyperplane import reach
from robusteval.attacks.square import HALVINGS, Square, bump
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

EACH = pytest.mark.parametrize("norm", BALLS, ids=[n.value for n in BALLS])


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: Attack, classifier: Classifier, images: Images, budget: Tensor | None = None) -> Tensor:
    return attack.run(classifier.metered(len(images)), images, budget, streams(images)).examples


def sizes(classifier: Classifier, images: Images, candidates: Tensor, norm: Norm) -> np.ndarray:
    """The distance of each witness (N,) in float64, infinite where there is none; none leaves the box."""
    assert candidates.isfinite().all()
    assert ((candidates >= 0) & (candidates <= 1)).all()
    wrong = classifier.predict(candidates).argmax(1) != images.labels
    size = norm.size(candidates.double() - images.pixels.double())
    return torch.where(wrong, size, torch.inf).numpy()


# The projection


def least(norm: Norm, x: np.ndarray, w: np.ndarray, needed: float) -> float:
    """The least size of a step onto <w, v> = needed in the box by a linear program; infinite if there is none."""
    n, one = len(x), np.ones((len(x), 1))
    if norm is Norm.L1:  # v = up - down
        found = linprog(
            np.ones(2 * n), A_eq=[[*w, *-w]], b_eq=[needed], bounds=[(0, 1 - a) for a in x] + [(0, a) for a in x]
        )
    else:
        bound = np.block([[np.eye(n), -one], [-np.eye(n), -one]])
        cost, bounds = np.append(np.zeros(n), 1.0), [(-a, 1 - a) for a in x] + [(0, None)]
        found = linprog(cost, bound, np.zeros(2 * n), [[*w, 0.0]], [needed], bounds)
    return float(found.fun) if found.status == 0 else math.inf


PIXEL = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1).map(lambda a: round(a, 3)))
WEIGHT = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-3, 3).map(lambda a: round(a, 3)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """A point, a normal and what is needed: in half of the cases up to what the box can give, else anything."""
    size = draw(st.integers(1, 8))
    x = np.array(draw(st.lists(PIXEL, min_size=size, max_size=size)))
    w = np.array(draw(st.lists(WEIGHT, min_size=size, max_size=size)))
    most, fewest = np.maximum(w * (1 - x), -w * x).sum(), np.minimum(w * (1 - x), -w * x).sum()
    share = draw(st.floats(0.01, 0.99))
    needed = draw(st.one_of(st.just(fewest + share * (most - fewest)), st.floats(-10, 10)))
    return x, w, float(needed)


def step(x: np.ndarray, w: np.ndarray, needed: float, norm: Norm) -> np.ndarray:
    shape = (1, 1, 1, len(x))
    moved = reach(
        torch.tensor(x).view(shape), torch.tensor(w).view(shape), torch.tensor([needed], dtype=torch.float64), norm
    )
    return moved.flatten().numpy()


@EACH
@settings(max_examples=150)
@given(problem=problems())
def test_the_step_onto_a_hyperplane_is_the_shortest_in_the_box(
    norm: Norm, problem: tuple[np.ndarray, np.ndarray, float]
) -> None:
    x, w, needed = problem
    v = step(x, w, needed, norm)
    assert (x + v >= -1e-12).all()
    assert (x + v <= 1 + 1e-12).all()
    sign = np.sign(needed)
    room = np.where(sign * w > 0, 1 - x, x) * (w != 0) * (sign != 0)
    if np.abs(w) @ room < abs(needed) - 1e-9:  # Out of reach: at the corner of the box nearest to the plane.
        np.testing.assert_allclose(v, sign * np.sign(w) * room, atol=1e-12)
        return
    assert abs(w @ v - needed) <= 1e-9
    if norm is Norm.L2:
        # Sufficient for the optimum: all pixels that are not at a wall share one multiplier, and those at one lag it.
        amounts, heavy = np.abs(v), np.abs(w)
        inside = (heavy > 0) & (amounts < room - 1e-9)
        for i in np.flatnonzero(inside):
            assert (np.minimum(room, amounts[i] / heavy[i] * heavy) >= amounts - 1e-7 * (1 + heavy / heavy[i])).all()
        assert (v * sign * w >= 0).all()
    else:
        assert Norm(norm).size(torch.tensor(v)[None]).item() <= least(norm, x, w, needed) + 1e-7


@EACH
def test_a_batch_of_large_projections_is_exact(norm: Norm) -> None:
    """Sizes against the bisection of the affine oracle, the normal at scales from 1e-30 to 1e30, in both precisions."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        classifier, weight, bias = affine(seed, classes=2)
        images = random_images(seed, 8, classifier)
        exact = affine_distances(weight, bias, images, norm)
        own = images.labels.numpy()
        w = torch.tensor(weight[1 - own] - weight[own]).view_as(images.pixels)
        values = (w * images.pixels).flatten(1).sum(1) + torch.tensor(bias[1 - own] - bias[own])
        scale = 10 ** (60 * torch.rand(8, generator=generator, dtype=torch.float64) - 30)
        normals, needed = scale[:, None, None, None] * w, -scale * values
        v = reach(images.pixels.double(), normals, needed, norm)
        np.testing.assert_allclose(norm.size(v).numpy(), exact, rtol=1e-9)
        v = reach(images.pixels, normals.float(), needed.float(), norm)
        np.testing.assert_allclose(norm.size(v).numpy(), exact, rtol=1e-4)
        assert ((images.pixels + v).clamp(0, 1) - (images.pixels + v)).abs().max() < 1e-6


# FAB

FABS = [FAB(norm=norm, targets=targets) for norm in BALLS for targets in (None, 9)]


@pytest.mark.parametrize("attack", FABS, ids=lambda a: f"{a.norm.value}-{a.targets}")
@pytest.mark.parametrize("seed", [0, 1])
def test_fab_finds_the_distance_of_an_affine_classifier(attack: FAB, seed: int) -> None:
    classifier, weight, bias = affine(seed)
    images = random_images(seed, 16, classifier)
    exact = affine_distances(weight, bias, images, attack.norm)
    small = attack.model_copy(update={"iterations": 20})
    found = sizes(classifier, images, run(small, classifier, images), attack.norm)
    assert (found >= exact * (1 - 1e-5)).all()
    assert np.median(found / exact) <= 1.001
    assert (found <= 1.01 * exact).all()


def test_fab_on_a_relu_network_solved_by_enumeration() -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 12, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = np.array([two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)])
    for targets, restarts in ((None, 1), (9, 1), (2, 4)):
        attack = FAB(norm=Norm.LINF, iterations=50, targets=targets, restarts=restarts)
        found = sizes(classifier, images, run(attack, classifier, images), Norm.LINF)
        assert (found >= exact * (1 - 1e-5)).all()
        assert np.median(found / exact) <= 1.05


@EACH
def test_random_restarts_are_never_worse(norm: Norm) -> None:
    better = 0
    for seed in range(4):
        classifier, _ = two_layer(seed)
        images = random_images(seed, 12, classifier)
        once, often = (
            sizes(classifier, images, run(FAB(norm=norm, iterations=5, restarts=r, refine=0), classifier, images), norm)
            for r in (1, 4)
        )
        assert (often <= once).all()
        better += (often < once).sum()
    assert better


@EACH
def test_an_image_leaves_fab_as_soon_as_its_budget_is_met(norm: Norm) -> None:
    classifier, weight, bias = affine(4)
    images = random_images(4, 10, classifier)
    exact = torch.tensor(affine_distances(weight, bias, images, norm))
    budget = exact * torch.tensor([1.2, 0.9] * 5)
    attack = FAB(norm=norm, iterations=15, targets=4)
    view = classifier.metered(len(images))
    candidates = attack.search(view, images, budget, streams(images)).examples
    found = sizes(classifier, images, candidates, norm)
    assert (found[::2] <= budget[::2].numpy() * (1 + 1e-6)).all()
    assert (found[1::2] > budget[1::2].numpy()).all(), "nobody finds what does not exist"
    most = 4 * attack.iterations
    assert (view.meter.backwards[1::2] == most).all()
    assert (view.meter.forwards[1::2] == most + 4 + 3 + attack.refine).all()
    assert (view.meter.backwards[::2] < most).all()
    assert view.meter.backwards[::2].median() <= attack.iterations
    assert (view.meter.forwards[::2] <= view.meter.backwards[::2] + 5).all(), "no final search where none is needed"
    without = attack.search(classifier.metered(10), images, None, streams(images)).examples
    assert torch.equal(without, run(attack, classifier, images))


def test_fab_has_one_target_fewer_than_classes() -> None:
    classifier, _, _ = affine(0, classes=3)
    images = random_images(0, 4, classifier)
    view = classifier.metered(4)
    FAB(norm=Norm.L2, iterations=5, targets=9).search(view, images, None, streams(images))
    assert view.meter.backwards.tolist() == [10.0] * 4


# Square


@EACH
def test_square_needs_the_distance_and_finds_most_of_what_there_is(norm: Norm) -> None:
    classifier, weight, bias = affine(0)
    images = random_images(0, 16, classifier)
    exact = affine_distances(weight, bias, images, norm)
    for factor, least_found in ((0.98, 0), (2.5, 16)):
        budget = torch.tensor(factor * exact)
        candidates = run(Square(norm=norm, queries=600), classifier, images, budget)
        found = sizes(classifier, images, candidates, norm)
        assert np.isfinite(found).sum() >= least_found
        won = np.isfinite(found)
        assert (found[won] <= budget.numpy()[won] * (1 + 1e-6)).all()
        assert (found >= exact * (1 - 1e-5)).all()
        if factor < 1:
            assert torch.equal(candidates, images.pixels), "the image itself where nothing is found"


@EACH
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 1, 5), (1, 3, 3), (3, 4, 6), (5, 6, 4), (1, 8, 8)])
def test_square_fits_images_of_any_shape(norm: Norm, shape: tuple[int, int, int]) -> None:
    """An affine model that one corner of the box alone fools, at a budget that reaches it."""
    size = math.prod(shape)
    linear = nn.Linear(size, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(size), torch.ones(size)]))
        linear.bias.copy_(torch.tensor([0.0, -0.75 * size]))
    classifier = make_classifier("sum", nn.Sequential(nn.Flatten(), linear), shape)
    images = Images(("a", "b"), torch.full((2, *shape), 0.5), torch.zeros(2).long())
    radius = norm.size(torch.full((2, size), 0.5))
    candidates = run(Square(norm=norm, queries=400), classifier, images, radius)
    if norm is not Norm.L1 or shape[0] == 1:
        # In L1 every bump has as much of one sign as of the other: over several channels such a corner is too far.
        assert np.isfinite(sizes(classifier, images, candidates, norm)).all()
    within = norm.size(candidates.double() - images.pixels.double())
    assert (within <= radius.double() * (1 + 1e-6)).all()


@EACH
def test_square_costs_one_forward_a_query_and_drops_the_fooled(norm: Norm) -> None:
    classifier, weight, bias = affine(1)
    images = random_images(1, 10, classifier)
    exact = torch.tensor(affine_distances(weight, bias, images, norm))
    budget = exact * torch.tensor([0.5, 3.0] * 5)
    view = classifier.metered(len(images))
    Square(norm=norm, queries=300, restarts=2).within(view, images, budget, streams(images))
    assert view.meter.forwards[::2].tolist() == [600.0] * 5
    assert (view.meter.forwards[1::2] < 300).all()
    assert not view.meter.backwards.any()


def test_the_windows_follow_the_published_schedule() -> None:
    attack = Square(norm=Norm.LINF, queries=10_000)
    share = [attack._side(q, 224, 224) ** 2 / 224**2 for q in (0, 10, 11, 8000, 8001)]
    np.testing.assert_allclose(share, [0.8, 0.8, 0.4, 0.8 / 256, 0.8 / 512], rtol=0.08)
    short = Square(norm=Norm.LINF, queries=500)
    assert [short._side(q, 224, 224) for q in (0, 1, 400, 401)] == [
        attack._side(q, 224, 224) for q in (0, 20, 8000, 8020)
    ]
    assert len(HALVINGS) == 9
    assert Square(norm=Norm.L2)._side(4999, 8, 8) == 3
    assert Square(norm=Norm.L2)._side(4999, 2, 2) == 1


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_a_bump_has_unit_size_and_two_equal_halves(norm: Norm, side: int) -> None:
    shape = bump(side, norm)
    assert norm.size(shape[None]).item() == pytest.approx(1)
    if side > 1:
        upper, lower = shape[: side // 2], shape[side // 2 :]
        assert (upper > 0).all()
        assert (lower < 0).all()
        assert norm.size(upper[None]).item() == pytest.approx(norm.size(lower[None]).item())
        assert abs(upper[side // 4, side // 2]) == upper.max()


# Both

BOTH: list[Attack] = [
    attack
    for norm in BALLS
    for attack in (
        FAB(norm=norm, iterations=12, restarts=2),
        FAB(norm=norm, iterations=12, restarts=2, targets=2),
        Square(norm=norm, queries=150, restarts=2),
    )
]


@pytest.mark.parametrize("attack", BOTH, ids=lambda a: f"{a.name}-{a.norm.value}")
def test_an_image_alone_gives_the_same_as_in_a_batch(attack: Attack) -> None:
    classifier, _ = two_layer(2)
    images = random_images(2, 8, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    budget = torch.linspace(0.02, 0.5, 8, dtype=torch.float64) if attack.fixed_budget else None
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    together = run(attack, classifier, images, budget)
    assert torch.equal(torch.random.get_rng_state(), state)
    for i in range(len(images)):
        row = torch.tensor([i])
        alone = run(attack, classifier, images.select(row), None if budget is None else budget[row])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)


@pytest.mark.parametrize("attack", BOTH, ids=lambda a: f"{a.name}-{a.norm.value}")
def test_nothing_to_find_and_nothing_to_do(attack: Attack) -> None:
    """A model that never errs, images at the corners of the box, zero gradients; an image misclassified already."""
    classifier, _, _ = affine(0)
    linear = next(m for m in classifier.module.modules() if isinstance(m, nn.Linear))
    images = Images(("a", "b"), torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]), torch.zeros(2).long())
    budget = torch.full((2,), 0.3) if attack.fixed_budget else None
    for weights in (linear.weight.clone(), torch.zeros_like(linear.weight)):
        with torch.no_grad():
            linear.weight.copy_(weights)
            linear.bias.copy_(torch.tensor([1e3, 0, 0, 0, 0]))
        assert torch.equal(run(attack, classifier, images, budget), images.pixels)
        with torch.no_grad():
            linear.bias.copy_(torch.tensor([0, 1e3, 0, 0, 0]))
        wrong = sizes(classifier, images, run(attack, classifier, images, budget), attack.norm)
        assert np.isfinite(wrong).all()
        if budget is None:
            assert (wrong == 0).all()


def test_settings_are_validated() -> None:
    for bad in ({"alpha_max": 1.5}, {"beta": 1.0}, {"eta": 0.9}, {"targets": 0}, {"iterations": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FAB(norm=Norm.L2, **bad)
    for bad in ({"p": 0.0}, {"p": 1.1}, {"queries": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Square(norm=Norm.L2, **bad)
