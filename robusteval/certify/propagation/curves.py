"""Smooth activations as curves whose bends are known: where each is convex or concave, how steep, where lowest.

A curve is computed by torch in several roundings; the network's value is taken to lie within

    16 u (|f(x)| + a |x|) + `beyond`                                                                        (1)

of f(x), u the unit roundoff and a = 1 where x is a factor of sums that cancel; `beyond` is what torch leaves out.
On a CPU less than UNITS / 2 are seen (tests/certify/propagation/test_smooth_activations.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.certify.propagation.ops import Op
from robusteval.certify.propagation.pieces import Pieces, single
from robusteval.certify.propagation.places import Box, Shape

UNITS = 16
"""Of the last place, which torch's own function may be off."""
OVERFLOWING = 80.0
"""Beyond it torch's exponential may overflow where it is not left out."""
_ROOT = math.sqrt(2.0)


@dataclass(frozen=True, eq=False)
class Curve(Op):
    """y = f(x), entry by entry. f falls, if at all, to its lowest point and rises from there.

    value, slope: f and its derivative, one from either side at a kink. bends: in order, the points between which f is
    convex or concave; convex: which of the two, one more than bends. lowest: where f is least, None where it rises
    everywhere. steepest: the largest |f'|. along: a of (1). beyond: an error that no rounding explains.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    steepest: float
    bends: tuple[float, ...]
    convex: tuple[bool, ...]
    lowest: float | None = None
    along: bool = False
    beyond: float = 0.0

    def apply(self, *x: Tensor) -> Tensor:
        return self.value(x[0])

    def scattered(self, members: Tensor, box: Box) -> tuple[Tensor, Box]:
        """(1, ..., h, w) of a box of outputs, in the inputs' places."""
        return members[0], box

    def error(self, highest: Tensor, size: Tensor, dtype: torch.dtype) -> Tensor:
        """(1) for |f(x)| up to `highest` and |x| up to `size`, computed in this type; infinite where that overflows."""
        info = torch.finfo(dtype)
        error = UNITS * info.eps / 2 * (highest + size * self.along) + self.beyond + UNITS * info.smallest_normal
        return torch.where(size < info.max / 16, error, torch.inf)


def _density(x: Tensor) -> Tensor:
    return (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)


def _silu_slope(x: Tensor) -> Tensor:
    s = x.sigmoid()
    return s * (1 + x * (1 - s))


def _gelu(module: nn.GELU) -> Curve | None:
    if module.approximate != "none":
        return None

    def slope(x: Tensor) -> Tensor:
        answer: Tensor = torch.special.ndtr(x) + x * _density(x)
        return answer

    convex = (False, True, False)
    return Curve(lambda x: x * torch.special.ndtr(x), slope, 1.12891, (-_ROOT, _ROOT), convex, -0.7517915247, True)


def _silu(module: nn.SiLU) -> Curve:
    bends = (-2.399357280520984, 2.399357280520984)
    # Where e^-x overflows torch answers 0 for x e^x.
    return Curve(functional.silu, _silu_slope, 1.09984, bends, (False, True, False), -1.278464542761074, beyond=1e-30)


def _elu(module: nn.ELU) -> Curve | None:
    alpha = float(module.alpha)
    return _exponential(alpha, 1.0) if alpha > 0 else None


def _exponential(alpha: float, scale: float) -> Curve:
    """scale x, and scale alpha (e^x - 1) below zero."""

    def value(x: Tensor) -> Tensor:
        return scale * torch.where(x > 0, x, alpha * x.clamp_max(0).expm1())

    def slope(x: Tensor) -> Tensor:
        return scale * torch.where(x > 0, 1.0, alpha * x.clamp_max(0).exp())

    return Curve(value, slope, scale * max(1.0, alpha) * (1 + 1e-12), (0.0,), (True, True), along=True)


def _selu(module: nn.SELU) -> Curve:
    return _exponential(1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def _softplus(module: nn.Softplus) -> Curve | None:
    beta, threshold = float(module.beta), float(module.threshold)
    if beta <= 0 or not 10 <= threshold <= OVERFLOWING:
        return None

    def value(x: Tensor) -> Tensor:
        return x.clamp_min(0) + (-(beta * x).abs()).exp().log1p() / beta

    # Beyond the threshold torch answers x.
    beyond = math.exp(-threshold) / beta
    return Curve(value, lambda x: (beta * x).sigmoid(), 1.0, (), (True,), along=True, beyond=beyond)


def _hard_swish(module: nn.Hardswish) -> Curve:
    def slope(x: Tensor) -> Tensor:
        return torch.where(x.abs() < 3, (2 * x + 3) / 6, (x > 0).to(x))

    def value(x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    return Curve(value, slope, 1.5, (-3.0, 3.0), (True, True, True), -1.5, along=True)


def _tanh(module: nn.Module) -> Curve:
    return Curve(torch.tanh, lambda x: 1 - torch.tanh(x).square(), 1.0, (0.0,), (True, False))


def _sigmoid(module: nn.Module) -> Curve:
    return Curve(torch.sigmoid, lambda x: x.sigmoid() * (-x).sigmoid(), 0.25, (0.0,), (True, False))


def _log_sigmoid(module: nn.Module) -> Curve:
    return Curve(functional.logsigmoid, lambda x: (-x).sigmoid(), 1.0, (), (False,), along=True)


def _soft_sign(module: nn.Module) -> Curve:
    return Curve(lambda x: x / (1 + x.abs()), lambda x: (1 + x.abs()).square().reciprocal(), 1.0, (0.0,), (True, False))


_CURVES: dict[type[nn.Module], Callable[[Any], Curve | None]] = {
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.ELU: _elu,
    nn.SELU: _selu,
    nn.Softplus: _softplus,
    nn.Hardswish: _hard_swish,
    nn.LogSigmoid: _log_sigmoid,
    nn.Softsign: _soft_sign,
}


def curved(module: nn.Module, before: Shape, after: Shape) -> Pieces | None:
    return single(_CURVES[type(module)](module), after)


CURVES: dict[type[nn.Module], Any] = dict.fromkeys(_CURVES, curved)
