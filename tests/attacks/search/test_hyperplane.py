"""The projection on a hyperplane within the box, against linear programs and conditions of the optimum."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from oracles import affine, affine_distances, random_images
from robusteval.attacks.hyperplane import reach
from robusteval.core.norms import Norm
from shortest import EACH

EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
"""Of the linear program: by its usual 1e-7 a constraint of that size counts as kept by a step of less than nothing."""


def least(norm: Norm, x: np.ndarray, w: np.ndarray, needed: float) -> float:
    """The least size of a step onto <w, v> = needed in the box by a linear program; infinite if there is none."""
    n, one = len(x), np.ones((len(x), 1))
    if norm is Norm.L1:  # v = up - down
        found = linprog(
            np.ones(2 * n),
            A_eq=[[*w, *-w]],
            b_eq=[needed],
            bounds=[(0, 1 - a) for a in x] + [(0, a) for a in x],
            options=EXACT,
        )
    else:
        bound = np.block([[np.eye(n), -one], [-np.eye(n), -one]])
        cost, bounds = np.append(np.zeros(n), 1.0), [(-a, 1 - a) for a in x] + [(0, None)]
        found = linprog(cost, bound, np.zeros(2 * n), [[*w, 0.0]], [needed], bounds, options=EXACT)
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
@example(problem=(np.array([1.0, 0.0]), np.array([-1.0, -2.0]), 2.0**-23))
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
