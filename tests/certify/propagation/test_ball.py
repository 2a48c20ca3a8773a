"""The largest value over a ball and the box, and what a first layer makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog

from propagating import F64, SHAPE, candidates, evaluated, images_for, small
from robusteval.certify.propagation.ball import InputBall, largest_change
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import BALLS, Norm


def _greatest(w: np.ndarray, room: np.ndarray, eps: float, norm: Norm) -> float:
    """max <w, t>, 0 <= t <= room, |t|_p <= eps, for w > 0, by a solver."""
    if norm is Norm.LINF:
        return float(w @ np.minimum(room, eps))
    if norm is Norm.L1:
        return -float(linprog(-w, np.ones((1, len(w))), [eps], bounds=[(0, r) for r in room]).fun)
    if np.linalg.norm(room) <= eps:
        return float(w @ room)
    tau = brentq(lambda tau: np.linalg.norm(np.minimum(room, tau * w)) - eps, 0, 1e6, xtol=1e-15, rtol=1e-14)
    return float(w @ np.minimum(room, tau * w))


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.1, 0.6, 5.0])
def test_the_largest_value_over_ball_and_box_is_exact(norm: Norm, eps: float) -> None:
    generator = np.random.default_rng(5)
    w = generator.normal(size=(30, 7)) * 10 ** generator.uniform(-1, 1, (30, 7))
    x = np.clip(generator.uniform(-0.3, 1.3, (30, 7)), 0, 1)
    weight, point = torch.from_numpy(w), torch.from_numpy(x)
    found = largest_change(weight, point, 1 - point, torch.full((30,), eps, dtype=F64), norm).numpy()
    exact = [
        _greatest(abs(row), np.where(row > 0, 1 - point, point), eps, norm) for row, point in zip(w, x, strict=True)
    ]
    assert np.allclose(found, exact, rtol=1e-9, atol=1e-12)
    assert (found >= np.array(exact) * (1 - 1e-11) - 1e-13).all()


@given(seed=st.integers(0, 10**6), scale=st.floats(-160, 140))
@settings(max_examples=40, deadline=None)
def test_the_largest_value_is_above_every_point_of_the_ball_at_any_scale(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(4, 20, generator=generator, dtype=F64) * 10**scale
    w[0, :10] = 0
    x = candidates(4, (1, 4, 5)).double().flatten(1)
    eps = torch.rand(4, generator=generator, dtype=F64)
    v = torch.randn(50, 4, 20, generator=generator, dtype=F64)
    for norm in BALLS:
        bound = largest_change(w, x, 1 - x, eps, norm)
        inside = norm.project(v.flatten(0, 1), eps.repeat(50)).view(v.shape)
        inside = (x + inside).clamp(0, 1) - x
        assert ((inside * w).sum(-1) <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
def test_a_first_convolution_is_bounded_exactly(norm: Norm) -> None:
    classifier = small("branches")
    graph, images = trace(classifier), images_for(classifier, 3)
    x = images.pixels.double()
    eps = torch.tensor([0.05, 0.3, 1.0], dtype=F64)
    (k,) = [k for k, node in enumerate(graph.nodes) if node.name.endswith("left")]
    interval = propagated(graph, InputBall(norm, x, eps))[k].interval
    centre = evaluated(graph, x)[k].flatten(1)
    one = torch.eye(x[0].numel(), dtype=F64).view(-1, *SHAPE)
    rows = (evaluated(graph, one)[k] - evaluated(graph, torch.zeros_like(one[:1]))[k]).flatten(1).T
    room = x.flatten(1)[:, None]
    rise, fall = (largest_change(sign * rows, room, 1 - room, eps[:, None], norm) for sign in (1, -1))
    assert torch.allclose(interval.upper.flatten(1), centre + rise, atol=1e-4)
    assert torch.allclose(interval.lower.flatten(1), centre - fall, atol=1e-4)
