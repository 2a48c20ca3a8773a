"""The power method at each image against singular values and operator norms of the explicit Jacobian."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from defending import F64, a_batch, conv_net, dense_net
from robusteval.core.norms import BALLS, Norm
from robusteval.defenses.power_method import Form, gain, maximisers, shared
from robusteval.metrics.operator_norm import operator_norm, power_method
from robusteval.numerics.jacobian import jacobian

PAIRS = list(itertools.product(BALLS, BALLS))
SHAPE = (1, 3, 3)
SMALL = 1e-7
"""How far v is followed: no ReLU of the networks here is that near its bend (a difference would show)."""
REACHED = 1e-9
"""Relative: (2, 2) loses (s2 / s1)^4 with each iteration; the others stop exactly, up to rounding."""
FOLLOWED = 1e-7
"""Relative: differences of logits of order one lose 1e-16 / SMALL = 1e-9 to rounding; a hundred times that."""


def reached(seed: int, p: Norm, q: Norm, form: Form, iterations: int = 300, eps: float = 0.5) -> Tensor:
    """The gain for each image, over eps."""
    network, batch = dense_net(9, 12, 4), a_batch(6, SHAPE)
    batch.generator.manual_seed(seed)
    found = maximisers(network, batch, p, q, iterations)
    return gain(network, batch, network(batch.pixels), found, q, eps, form).detach() / eps


def exact(p: Norm, q: Norm) -> Tensor:
    """|J|_{p,q} of each image; of (inf, 2) by all corners of the cube."""
    j = jacobian(dense_net(9, 12, 4), a_batch(6, SHAPE).pixels).detach()
    known = operator_norm(j, p, q)
    if known is not None:
        return known
    # |J v|_2 is convex: the cube's maximum is at a corner, and there are 2^9.
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=9)), dtype=F64)
    best: Tensor = torch.linalg.vector_norm(corners @ j.mT, dim=2).amax(1)
    return best


def test_the_gain_is_the_largest_singular_value_of_each_image() -> None:
    j = jacobian(dense_net(9, 12, 4), a_batch(6, SHAPE).pixels).detach()
    largest = torch.linalg.svdvals(j)[:, 0]
    assert torch.allclose(reached(0, Norm.L2, Norm.L2, "jacobian"), largest, rtol=REACHED, atol=0)
    followed = reached(0, Norm.L2, Norm.L2, "difference", eps=SMALL)
    assert torch.allclose(followed, largest, rtol=FOLLOWED, atol=0)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_no_start_exceeds_the_operator_norm_and_the_best_of_many_reaches_it(p: Norm, q: Norm) -> None:
    """Local maxima are possible: for all but (2, 2) the best of twenty starts counts."""
    norm = exact(p, q)
    found = torch.stack([reached(seed, p, q, "jacobian", iterations=100) for seed in range(20)])
    assert (found <= norm * (1 + REACHED)).all()
    if (p, q) == (Norm.L2, Norm.L2):
        found = reached(0, p, q, "jacobian")[None]
    assert torch.allclose(found.amax(0), norm, rtol=REACHED, atol=0)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_directions_are_units_and_dual_to_each_other(p: Norm, q: Norm) -> None:
    network, batch = dense_net(9, 12, 4), a_batch(6, SHAPE)
    u, v = maximisers(network, batch, p, q, 5)
    pushed = (jacobian(network, batch.pixels).detach() @ v.flatten(1)[:, :, None])[:, :, 0]
    assert torch.allclose(p.size(v), torch.ones(6, dtype=F64), rtol=REACHED)
    assert torch.allclose(q.dual.size(u), torch.ones(6, dtype=F64), rtol=REACHED)
    assert torch.allclose((u * pushed).sum(1), q.size(pushed), rtol=REACHED)
    assert not u.requires_grad
    assert not v.requires_grad


def test_more_iterations_never_lose_gain() -> None:
    for p, q in PAIRS:
        gains = torch.stack([reached(3, p, q, "jacobian", iterations=k) for k in range(1, 8)])
        assert (gains.diff(dim=0) >= -REACHED * gains.max()).all()


def test_largest_entries_that_are_equal_share_the_unit() -> None:
    """OpNorm, below Eq. 11: |I|^-1 times the signs on the set I of maximisers; the limit of large powers."""
    z = torch.tensor([[1.0, -2.0, 2.0, 0.5], [0.0, 3.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0]], dtype=F64)
    third = torch.tensor([[0, -0.5, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=F64)
    assert torch.equal(shared(Norm.L1, z), third)
    q = 200.0
    limit = (
        z[:2].sign() * z[:2].abs() ** (q - 1) / torch.linalg.vector_norm(z[:2], ord=q, dim=1, keepdim=True) ** (q - 1)
    )
    # 2^(1/q) is the rest of the limit: 0.5 * 2^(1/200) is off by 0.2 %.
    assert torch.allclose(limit, third[:2], atol=0.5 * (2 ** (1 / q) - 1) + 1e-12)
    assert torch.equal(shared(Norm.LINF, z), z.sign())
    assert torch.allclose(shared(Norm.L2, z)[:2], z[:2] / z[:2].norm(dim=1, keepdim=True))


def test_the_metric_that_measures_operator_norms_finds_the_same_from_the_same_start() -> None:
    network, batch = conv_net(), a_batch()
    for p, q in PAIRS:
        u, v = maximisers(network, a_batch(), p, q, 50)
        j = jacobian(network, batch.pixels).detach()
        start = p.scale_to(a_batch().normal(), 1.0).flatten(1)[:, None]
        value, direction = power_method(j, start, p, q, 50)
        assert torch.allclose((u[:, None] @ j @ v.flatten(1)[:, :, None]).flatten(), value[:, 0], rtol=REACHED)
        assert torch.allclose(v.flatten(1), direction[:, 0], atol=1e-6)
