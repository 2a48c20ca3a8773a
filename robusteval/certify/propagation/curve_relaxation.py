"""Two lines that enclose a curve over an interval, proven whatever their slopes are.

For x in [l, u] and any s the line s x + m lies below f where m is at most the least of g(x) = f(x) - s x. Where f is
concave, g is least at the ends. Where it is convex, between a and b say, the tangent at any point p of that part is
below f, so that

    g(x)  >=  g(p) + min (f'(p) - s) (a - p), (f'(p) - s) (b - p)                                            (1)

and p is found by bisection so that f'(p) = s nearly: what is missing is in (1). Above, the same for -f. A slope is that
of the convex hull of some points of the curve over the middle of the interval, which leaves about the least area.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.rounding import DOUBLE, Precision, gamma
from robusteval.certify.propagation.values import Interval, Known, Lines

POINTS = 13
"""Of a curve, for the choice of a slope."""
CHOOSING, FINDING = 16, 26
"""Bisections for a slope, and for the point of a tangent."""


def enclosed(op: Curve, taken: Interval, precision: Precision) -> Known:
    """What is known of a curve over values in `taken`, as the network computes it."""
    lower, upper = taken.lower, taken.upper
    ends = torch.stack([op.value(lower), op.value(upper)])
    low, high = ends.amin(0), ends.amax(0)
    if op.lowest is not None:
        least = op.value(torch.full((), op.lowest, dtype=lower.dtype, device=lower.device))
        # The curve is flat there, and where it is lowest is known to nine digits.
        low = torch.where((lower < op.lowest) & (upper > op.lowest), least - 1e-15, low)
    size, highest = taken.size, torch.maximum(-low, high)
    error = op.error(highest, size, precision.network)
    # What float64 can be off in values of the curve and in (1).
    own = 128 * DOUBLE * (highest + 2 * op.steepest * size)
    reach = error + own
    slopes, offsets = [], []
    for sign in (1.0, -1.0):
        slope = (sign * _slope(op, sign, lower, upper)).to(precision.coefficients).double()
        slopes.append(slope)
        offsets.append(sign * _least(op, sign, slope, lower, upper))
    relative = precision.backward(1) + 5 * gamma(lower[0].numel() + precision.layers + 32)
    lines = ((slope.abs() * size + offset.abs()) for slope, offset in zip(slopes, offsets, strict=True))
    slack = relative * (sum(lines) + highest) + reach
    interval = Interval(low - reach, high + reach)
    below, above = (slope[None, :, None].to(precision.coefficients) for slope in slopes)
    free = torch.zeros_like(below, dtype=torch.bool)
    faint = precision.underflow(1, [size])
    return Known(interval, offsets[0] - slack, offsets[1] + slack, faint, Lines(below, above, free))


def _slope(op: Curve, sign: float, lower: Tensor, upper: Tensor) -> Tensor:
    """The slope of the convex hull of points of sign f, over the middle of the interval."""
    share = torch.linspace(0, 1, POINTS, dtype=lower.dtype, device=lower.device).view(-1, *[1] * lower.dim())
    x = lower + share * (upper - lower)
    y, middle = sign * op.value(x), (lower + upper) / 2
    low, high = torch.full_like(lower, -op.steepest), torch.full_like(lower, op.steepest)
    for _ in range(CHOOSING):
        s = (low + high) / 2
        # The line s x through the lowest point of y - s x: left of the middle, a steeper one is higher there.
        left = x.gather(0, (y - s * x).argmin(0, keepdim=True))[0] < middle
        low, high = torch.where(left, s, low), torch.where(left, high, s)
    return (low + high) / 2


def _least(op: Curve, sign: float, slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """A lower bound of sign (f(x) - slope x) over the interval, but for the rounding of float64."""

    def g(x: Tensor) -> Tensor:
        return sign * (op.value(x) - slope * x)

    best = torch.minimum(g(lower), g(upper))
    edges = [lower, *(x.clamp(lower, upper) for x in map(lower.new_tensor, op.bends)), upper]
    for a, b, convex in zip(edges[:-1], edges[1:], op.convex, strict=True):
        best = torch.minimum(best, g(b))
        if convex != (sign > 0):
            continue
        near, far = a, b
        for _ in range(FINDING):
            p = (near + far) / 2
            before = sign * (op.slope(p) - slope) < 0
            near, far = torch.where(before, p, near), torch.where(before, far, p)
        p = (near + far) / 2
        tilt = sign * (op.slope(p) - slope)
        best = torch.minimum(best, g(p) + torch.minimum(tilt * (a - p), tilt * (b - p)))
    return best
