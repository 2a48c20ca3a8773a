"""Two lines that enclose a maximum: the relaxation behind backward linear bounds.

For x_j in [l_j, u_j] and y = max_j x_j, any g >= max_j l_j gives

    y  <=  g + sum_j max(x_j - g, 0)  <=  g + sum_j s_j (x_j - l_j),      s_j = max(u_j - g, 0) / (u_j - l_j)       (1)

since each term is convex in x_j and the line meets it at both ends or lies above. The g at which the slopes add up to
one is taken (as Boopathy et al. 2019, CNN-Cert, do for max-pooling). With sum_S (u_j - g) / (u_j - l_j) <= sum_j s_j
for every set S it is the largest of the g_k that solve this for the k highest u_j. For y = max(x, 0), the floor is an
entry with l = u = 0: g >= 0, and for one entry (1) is the chord of ReLU, u (x - l) / (u - l) (Zhang et al. 2018).

From below, y >= a x_j for any j and a = 1, or with a floor any a in [0, 1]. The entry with the highest centre is taken,
and a = 1 where u_j >= -l_j, else 0 (CROWN's adaptive choice).
"""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.rounding import DOUBLE, Precision, gamma
from robusteval.certify.propagation.values import Interval, Known, Lines


def relaxed(op: Max, taken: Interval, precision: Precision) -> Known:
    """What is known of a maximum over values in `taken`. The line above is made for the slopes as they are rounded;
    what rounding does to a row of coefficients that passes through is charged as in rounding.py."""
    result = Interval(op.apply(taken.lower), op.apply(taken.upper))
    lower, upper = op.members(taken.lower), op.members(taken.upper)
    inside = lower > -torch.inf
    level = _level(lower, upper, result.lower)
    width = upper - lower
    slope = _rounded_up((upper - level) / width * (1 + 8 * DOUBLE), precision.coefficients).clamp(0, 1)
    # A width that vanishes: slope 1 is right, as level >= lower.
    slope = torch.where(inside & (upper > level), torch.where(width > 1e-280, slope, 1.0), 0.0)
    chosen = _highest(lower, upper)
    taken_whole = chosen & (upper >= -lower) if op.floor else chosen
    free = chosen & (lower < 0) & (upper > 0) if op.floor else torch.zeros_like(chosen)
    finite = torch.where(inside, lower, 0.0)
    size = torch.where(inside, torch.maximum(-lower, upper), 0.0)
    relative = precision.backward(len(lower)) + 5 * gamma(4 * len(lower) + level[0].numel() + precision.layers + 16)
    slack = relative * (level.abs() + ((slope + chosen) * size).sum(0) + result.size)
    offset = level - (slope * finite).sum(0)
    lower_line, upper_line = (x[:, :, None].to(precision.coefficients) for x in (taken_whole, slope))
    lines = Lines(lower_line, upper_line, free[:, :, None])
    return Known(result, -slack, offset + slack, precision.underflow(len(lower), [size.amax(0)]), lines)


def _rounded_up(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x >= 0 rounded up to numbers of a type, in float64."""
    return torch.nextafter(x.to(dtype), torch.full((), torch.inf, dtype=dtype)).double()


def _level(lower: Tensor, upper: Tensor, least: Tensor) -> Tensor:
    """g of (1), (M, C, H, W), from entries (E, M, C, H, W); at least `least`, the maximum of the lower ends."""
    if len(lower) == 1:
        return least
    highest, order = torch.where(lower > -torch.inf, upper, -1e300).sort(0, descending=True)
    inverse = 1 / (upper - lower).clamp_min(1e-100).gather(0, order)
    inverse = torch.where(highest > -1e300, inverse, 0.0)
    solved = ((highest * inverse).cumsum(0) - 1) / inverse.cumsum(0)
    return torch.maximum(solved.amax(0), least)


def _highest(lower: Tensor, upper: Tensor) -> Tensor:
    """The entry of each window with the highest centre, (E, M, C, H, W) bool."""
    if len(lower) == 1:
        return torch.ones_like(lower, dtype=torch.bool)
    best = (lower + upper).argmax(0, keepdim=True)
    return torch.zeros_like(lower, dtype=torch.bool).scatter(0, best, True)
