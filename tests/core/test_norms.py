"""The arithmetic of norms, by the properties that define it."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from torch import Tensor

from robusteval.core.norms import BALLS, Norm

NORMS = st.sampled_from(BALLS)
RADII = st.floats(1e-3, 10)


def batches(n: int = 3, size: int = 8, bound: float = 5.0) -> st.SearchStrategy[Tensor]:
    """Batches (n, 1, 2, size / 2) in float64, zeros and equal entries among them."""
    entries = st.one_of(st.floats(-bound, bound, allow_subnormal=False), st.sampled_from([0.0, 1.0, -1.0]))
    return arrays(np.float64, (n, 1, 2, size // 2), elements=entries).map(torch.from_numpy)


@given(batches(), NORMS)
def test_size_is_the_p_norm_of_each_image(v: Tensor, norm: Norm) -> None:
    expected = [np.linalg.norm(row, ord=norm.p) for row in v.flatten(1).numpy()]
    np.testing.assert_allclose(norm.size(v).numpy(), expected, rtol=1e-12)


def test_duals_are_conjugate_exponents() -> None:
    for norm in BALLS:
        assert 1 / norm.p + 1 / norm.dual.p == 1
        assert norm.dual.dual is norm


@given(batches(), NORMS, RADII)
def test_scale_to_gives_the_size_and_keeps_the_direction(v: Tensor, norm: Norm, radius: float) -> None:
    scaled, size = norm.scale_to(v, radius), norm.size(v)
    expected = radius * (v != 0).flatten(1).any(1).double()
    torch.testing.assert_close(norm.size(scaled), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(scaled * size.view(-1, 1, 1, 1), v * radius, rtol=1e-9, atol=1e-12)


@given(batches(), NORMS, RADII)
def test_projection_ends_on_the_sphere_or_stays_inside(v: Tensor, norm: Norm, radius: float) -> None:
    projected, size = norm.project(v, radius), norm.size(v)
    inside = size <= radius
    assert torch.equal(projected[inside], v[inside])
    torch.testing.assert_close(norm.size(projected)[~inside], torch.full_like(size[~inside], radius), rtol=1e-9, atol=0)
    torch.testing.assert_close(norm.project(projected, radius), projected, rtol=0, atol=1e-9)


@given(batches(), NORMS, RADII, batches())
def test_projection_is_the_nearest_point(v: Tensor, norm: Norm, radius: float, other: Tensor) -> None:
    """The defining inequality of a projection on a convex set: <v - p, u - p> <= 0 for every u in it."""
    p, u = norm.project(v, radius), norm.project(other, radius)
    assert (((v - p) * (u - p)).flatten(1).sum(1) <= 1e-8).all()


@pytest.mark.parametrize("seed", range(5))
def test_l1_projection_agrees_with_a_general_solver(seed: int) -> None:
    v = np.random.default_rng(seed).normal(size=5) * 2
    # v = plus - minus with both >= 0 makes the L1 ball a linear constraint.
    solved = minimize(
        lambda z: ((z[:5] - z[5:] - v) ** 2).sum(),
        np.full(10, 0.05),
        jac=lambda z: np.concatenate([2 * (z[:5] - z[5:] - v), -2 * (z[:5] - z[5:] - v)]),
        bounds=[(0, None)] * 10,
        constraints={"type": "ineq", "fun": lambda z: 1 - z.sum(), "jac": lambda z: -np.ones(10)},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    projected = Norm.L1.project(torch.from_numpy(v)[None], 1.0)[0].numpy()
    np.testing.assert_allclose(projected, solved.x[:5] - solved.x[5:], atol=1e-5)


@given(batches(), RADII, RADII, RADII, NORMS)
def test_a_radius_of_its_own_for_each_image(v: Tensor, a: float, b: float, c: float, norm: Norm) -> None:
    together = norm.project(v, torch.tensor([a, b, c], dtype=torch.float64))
    for i, radius in enumerate((a, b, c)):
        torch.testing.assert_close(together[i : i + 1], norm.project(v[i : i + 1], radius), rtol=1e-12, atol=1e-12)


@given(batches(), NORMS)
def test_steepest_ascent_attains_hölders_bound(gradient: Tensor, norm: Norm) -> None:
    v = norm.steepest(gradient)
    assert (norm.size(v) <= 1 + 1e-12).all()
    gain = (v * gradient).flatten(1).sum(1)
    torch.testing.assert_close(gain, norm.dual.size(gradient), rtol=1e-9, atol=1e-12)
    nothing = (gradient == 0).flatten(1).all(1)
    assert (v[nothing] == 0).all()


@given(batches(), batches(), NORMS)
def test_hölders_inequality(u: Tensor, v: Tensor, norm: Norm) -> None:
    inner = (u * v).flatten(1).sum(1).abs()
    assert (inner <= norm.size(u) * norm.dual.size(v) * (1 + 1e-12) + 1e-12).all()


@given(st.integers(-44, 18), NORMS)
def test_directions_survive_tiny_and_huge_gradients(exponent: int, norm: Norm) -> None:
    """A confident network's gradient is far below 1e-19 in float32, where its squares vanish."""
    g = torch.tensor([3.0, -4.0, 0.0]).view(1, 1, 1, 3)
    scale = 10.0 ** max(exponent, -36)
    torch.testing.assert_close(norm.steepest(g * scale), norm.steepest(g), rtol=1e-5, atol=1e-7)


def test_equal_entries_and_empty_batches() -> None:
    ties = torch.ones(1, 1, 2, 2)
    assert Norm.L1.steepest(ties).flatten().tolist() == [1, 0, 0, 0]
    assert Norm.L1.project(ties, 1.0).flatten().tolist() == [0.25] * 4
    for norm in BALLS:
        empty = torch.zeros(0, 1, 2, 2)
        assert norm.project(empty, 1.0).shape == norm.steepest(empty).shape == empty.shape


def test_changed_entries_are_counted() -> None:
    assert Norm.L0.size(torch.tensor([[0.0, -1e-30, 2.0], [0.0, 0.0, 0.0]])).tolist() == [2, 0]
    assert math.isinf(Norm.LINF.p)
