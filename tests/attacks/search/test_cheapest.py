"""The smallest perturbations on a linear boundary within reach, against linear programs and points drawn at random."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from robusteval.attacks.search import cheapest
from robusteval.core.norms import Norm


def drawn(seed: int, rows: int = 30, entries: int = 9) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Perturbations of images in the box, gradients with some zeros, gains of both signs, and reaches."""
    g = torch.Generator().manual_seed(seed)
    centers = torch.rand(rows, entries, generator=g, dtype=torch.float64)
    v = torch.rand(rows, entries, generator=g, dtype=torch.float64) - centers
    v[torch.rand(rows, entries, generator=g) < 0.3] = 0
    gradient = torch.randn(rows, entries, generator=g, dtype=torch.float64)
    gradient[torch.rand(rows, entries, generator=g) < 0.2] = 0
    gain = torch.randn(rows, generator=g, dtype=torch.float64)
    return v, gradient, gain, 0.05 + torch.rand(rows, generator=g, dtype=torch.float64), -centers, 1 - centers


@pytest.mark.parametrize("seed", range(4))
def test_in_l1_it_is_the_solution_of_the_linear_program(seed: int) -> None:
    v, gradient, gain, reach, low, high = drawn(seed)
    found = cheapest.in_l1(v, gradient, gain, reach, low, high)
    assert ((found - v).abs() <= reach[:, None] + 1e-12).all()
    assert ((found >= low - 1e-12) & (found <= high + 1e-12)).all()
    feasible = 0
    for row, own in enumerate(found):
        least, most = torch.maximum(low[row], v[row] - reach[row]), torch.minimum(high[row], v[row] + reach[row])
        reached = (gradient[row] * (own - v[row])).sum()
        # u = plus - minus, both from zero on.
        rates, bounds = gradient[row].numpy(), [(max(0, a), max(0, b)) for a, b in zip(least, most, strict=True)]
        bounds += [(max(0, -b), max(0, -a)) for a, b in zip(least, most, strict=True)]
        asked = -float(gain[row] + (gradient[row] * v[row]).sum())
        best = linprog([1.0] * 2 * len(own), A_ub=[[*-rates, *rates]], b_ub=[asked], bounds=bounds)
        if best.status == 0:
            feasible += 1
            assert reached >= gain[row] - 1e-9
            assert float(own.abs().sum()) == pytest.approx(best.fun, abs=1e-6)
        else:
            ends = torch.where(gradient[row] > 0, most, least) - v[row]
            assert float(reached) == pytest.approx(float((gradient[row] * ends).sum()), abs=1e-9)
    assert 5 < feasible < len(found), "both kinds are to be seen"


def test_in_l1_entries_that_gain_nothing_are_not_moved_outwards() -> None:
    v = torch.zeros(1, 4)
    gradient = torch.tensor([[0.0, 1.0, 0.0, -0.5]])
    found = cheapest.in_l1(v, gradient, torch.tensor([9.0]), torch.tensor([0.3]), v - 0.5, v + 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.3, 0.0, -0.3]]))
    assert not cheapest.in_l1(v, 0 * gradient, torch.tensor([9.0]), torch.tensor([0.3]), v - 0.5, v + 0.5).any()


@pytest.mark.parametrize("seed", range(4))
def test_in_l2_nothing_within_reach_that_gains_as_much_is_smaller(seed: int) -> None:
    v, gradient, gain, reach, _, _ = drawn(seed)
    gain = gain.clamp(-0.9 * reach * gradient.norm(dim=1), 0.9 * reach * gradient.norm(dim=1))
    found = cheapest.in_l2(v, gradient, gain, reach)
    assert ((found - v).norm(dim=1) <= reach + 1e-12).all()
    assert ((gradient * (found - v)).sum(1) >= gain - 1e-9).all()
    g = torch.Generator().manual_seed(seed)
    for spread in (1.0, 0.1, 0.01):
        others = found + spread * torch.randn(2000, *v.shape, generator=g, dtype=torch.float64)
        others = v + Norm.L2.project((others - v).flatten(0, 1), reach.repeat(2000)).view_as(others)
        lawful = (gradient * (others - v)).sum(2) >= gain
        smaller = others.norm(dim=2) < found.norm(dim=1) - 1e-9
        assert not (lawful & smaller).any()
        assert lawful.any()
