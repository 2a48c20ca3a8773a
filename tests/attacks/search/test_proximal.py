"""Proximal operators: nothing in the box costs less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robusteval.attacks.search.proximal import Proximal, prox_l1, prox_l2, prox_linf, prox_two_thirds
from robusteval.core.norms import Norm

SIZES: dict[Proximal, Callable[[Tensor], Tensor]] = {
    prox_l1: Norm.L1.size,
    prox_l2: Norm.L2.size,
    prox_linf: Norm.LINF.size,
    prox_two_thirds: lambda u: u.abs().pow(2 / 3).flatten(1).sum(1),
}
ROWS = 6


def problem(seed: int, pixels: int, log_price: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Points in and out of the box [-x, 1 - x] of images x, which has its corners too; unequal weights."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(ROWS, 1, 1, pixels, generator=generator, dtype=torch.float64)

    images = (2 * draw() - 0.5).clamp(0, 1)
    price = 10**log_price * draw()[:, 0, 0, 0]
    return 4 * draw() - 2, price, 10 ** (2 * draw() - 1), -images, 1 - images


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(-3, 1.5))
@pytest.mark.parametrize("operator", SIZES)
def test_nothing_in_the_box_costs_less(operator: Proximal, seed: int, pixels: int, log_price: float) -> None:
    v, price, weight, low, high = problem(seed, pixels, log_price)
    generator = torch.Generator().manual_seed(seed + 1)

    def cost(u: Tensor) -> Tensor:
        return (weight * (u - v).square() / 2).flatten(1).sum(1) + price * SIZES[operator](u)

    found = operator(v, price, weight, low, high)
    assert ((low <= found) & (found <= high)).all()
    least = cost(found)
    for width in (1e-4, 1e-2, 1.0):
        for sparse in (False, True):
            for _ in range(10):
                away = width * torch.randn(v.shape, generator=generator, dtype=v.dtype)
                away = torch.where(torch.rand(v.shape, generator=generator) < 0.5, away, 0) if sparse else away
                assert (least <= cost((found + away).clamp(low, high)) + 1e-9).all()
    for share in (0.0, 0.5, 0.99, 0.9999, 1.0001, 1.01):
        assert (least <= cost((share * found).clamp(low, high)) + 1e-9).all()
    assert (least <= cost(v.clamp(low, high)) + 1e-9).all()
    if operator is prox_two_thirds:
        for pixel in range(pixels):
            for value in torch.linspace(0, 1, 33, dtype=v.dtype):
                other = found.clone()
                other[..., pixel] = low[..., pixel] + value * (high - low)[..., pixel]
                assert (least <= cost(other) + 1e-9).all()
