"""Smooth activations: what torch computes stays within what is allowed, and two lines enclose them on any interval."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from propagating import F64
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.curve_relaxation import enclosed
from robusteval.certify.propagation.curves import CURVES, Curve
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.lipschitz_constants import layer_constants, value_constants
from robusteval.certify.propagation.rectifiers import Absolute
from robusteval.certify.propagation.rounding import Precision
from robusteval.certify.propagation.trace import trace
from robusteval.certify.propagation.values import Interval
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier

SETTINGS = [*(kind() for kind in CURVES), nn.ELU(0.3), nn.ELU(2.5), nn.Softplus(3, 15)]
EACH = pytest.mark.parametrize("module", SETTINGS, ids=str)


def curve_of(module: nn.Module) -> Curve:
    (piece,) = CURVES[type(module)](module, (1, 1, 1), (1, 1, 1))
    assert isinstance(piece.op, Curve)
    return piece.op


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_torch_is_off_by_less_than_half_of_what_is_allowed(module: nn.Module, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(100_000) * scale for scale in (1e-30, 1e-8, 1e-3, 1, 5, 30, 200, 1e5)]).to(dtype)
    op = curve_of(module)
    exact = op.value(x.double())
    off = (module(x).double() - exact).abs() - op.beyond
    assert (off <= (op.error(exact.abs(), x.double().abs(), dtype) - op.beyond) / 2).all()


@EACH
def test_two_lines_and_an_interval_enclose_a_curve(module: nn.Module) -> None:
    op = curve_of(module)
    generator = torch.Generator().manual_seed(3)
    lower = 4 * torch.randn(3000, 1, 1, 1, generator=generator, dtype=F64)
    width = 10 ** (8 * torch.rand(lower.shape, generator=generator, dtype=F64) - 6.5)
    lower[:200], width[:200] = torch.randn(200, 1, 1, 1, generator=generator, dtype=F64).round(), 0.0
    for coefficients in (torch.float32, F64):
        known = enclosed(op, Interval(lower, lower + width), Precision(torch.float32, coefficients, 5))
        assert known.lines is not None
        share = torch.linspace(0, 1, 201, dtype=F64).view(-1, 1, 1, 1, 1)
        x = lower + share * width
        exact = op.value(x)
        below = known.lines.lower[0, :, 0] * x + known.below
        above = known.lines.upper[0, :, 0] * x + known.above
        assert (exact >= below).all()
        assert (exact <= above).all()
        assert (exact >= known.interval.lower).all()
        assert (exact <= known.interval.upper).all()
        # No line that touches the curve nowhere, and both together enclose less than the interval does.
        room = 1e-4 + 0.02 * (exact.amax(0) - exact.amin(0)) + 0.01 * width
        assert ((exact - below).amin(0) <= room).all()
        assert ((above - exact).amin(0) <= room).all()
        tall = known.interval.upper - known.interval.lower
        assert (above - below).mean() < 0.7 * tall.mean()


@EACH
def test_nothing_is_steeper_than_said_and_bends_are_where_they_are_said(module: nn.Module) -> None:
    op = curve_of(module)
    x = torch.linspace(-30, 30, 600_001, dtype=F64)
    slope = op.slope(x)
    assert (slope.abs() <= op.steepest).all()
    assert slope.abs().max() > 0.999 * op.steepest or isinstance(module, nn.ELU)
    edges = [-torch.inf, *op.bends, torch.inf]
    for low, high, convex in zip(edges[:-1], edges[1:], op.convex, strict=True):
        rise = slope[(x > low) & (x < high)].diff()
        assert ((rise >= -1e-12) if convex else (rise <= 1e-12)).all()
    if op.lowest is not None:
        assert abs(float(op.slope(torch.tensor(op.lowest, dtype=F64)))) < 1e-8


def test_magnitudes_and_leaky_layers_have_the_intervals_and_constants_of_their_own() -> None:
    """Not those of the two terms that they are made of."""
    for layer, steep, low in ((Absolute(), 1.0, 0.0), (nn.LeakyReLU(-0.5), 1.0, 0.0), (nn.LeakyReLU(2.0), 2.0, None)):
        network = nn.Sequential(nn.Flatten(), nn.Linear(8, 3), layer)
        graph = trace(make_classifier("bent", network, (2, 2, 2)))
        ball = InputBall(Norm.LINF, torch.full((1, 2, 2, 2), 0.5, dtype=F64), torch.full((1,), 0.5, dtype=F64))
        before, _, after = (known.interval for known in propagated(graph, ball)[-3:])
        assert low is None or (after.lower > low - 1e-5).all()
        assert (after.size <= steep * before.size + 1e-5).all()
        constants = value_constants(graph, layer_constants(graph, Norm.LINF), Norm.LINF)
        assert constants[-1] == pytest.approx(steep * constants[-3])


def test_what_may_overflow_has_no_bounds() -> None:
    """x (x + 3) / 6 overflows before x does; an exponential that is not left out does soon."""
    op, huge = curve_of(nn.Hardswish()), torch.full((1, 1, 1, 1), 3e37, dtype=F64)
    known = enclosed(op, Interval(huge, 2 * huge), Precision(torch.float32, F64, 5))
    assert not known.interval.lower.isfinite().any()
    assert CURVES[nn.Softplus](nn.Softplus(threshold=1000), (1, 1, 1), (1, 1, 1)) is None
