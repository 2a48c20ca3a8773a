"""The largest radius that a bound certifies, for each image on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 60
"""More than any bracket needs that has an end."""
SMALLEST = 1e-9
"""A radius below this share of the reach is 0."""

Margin = Callable[[Tensor, Tensor], Tensor]
"""(rows of images (R,), radii (R,)) -> margins (R,): certified where positive."""


def largest_radius(margin: Margin, clean: Tensor, start: Tensor, reach: Tensor, tolerance: float) -> Tensor:
    """The largest radius tested at which the margin was positive, (N,), 0 where none was.

    clean (N,): the margin at radius 0, nothing is searched where it is not positive; start (N,): the first radius
    tested; reach (N,): the largest that makes sense. An image is done when a radius failed that is larger by no more
    than `tolerance`, relative. Until one fails, the next is a third of the way to where a line through the last two
    margins is zero (they fall faster); then, where a parabola through the last three tested is, or a share of
    the way down where the last was far from certified.
    """
    low, high = torch.zeros_like(clean), torch.full_like(clean, torch.inf)
    # The last three radii tested and their margins.
    tested = torch.stack([torch.zeros_like(clean), torch.full_like(clean, torch.nan), torch.zeros_like(clean)])
    margins = torch.stack([clean, torch.full_like(clean, torch.nan), clean])
    radii = start.minimum(reach)
    for _ in range(ROUNDS):
        open_ = (clean > 0) & (high - low > tolerance * high.clamp_max(1e300)) & (low < reach)
        rows = (open_ & (high > SMALLEST * reach)).nonzero()[:, 0]
        if not len(rows):
            break
        found = margin(rows, radii[rows])
        right = found > 0
        low[rows[right]] = radii[rows[right]]
        high[rows[~right]] = radii[rows[~right]]
        tested[:, rows] = torch.stack([*tested[1:, rows], radii[rows]])
        margins[:, rows] = torch.stack([*margins[1:, rows], found])
        radii = _next(low, high, tested, margins, clean, tolerance).minimum(reach)
    return low


def root(tested: Tensor, margins: Tensor) -> Tensor:
    """Where a parabola through the margins of the last three radii tested is zero, (3, N) each; NaN for nowhere."""
    x0, x1, x2 = tested
    m0, m1, m2 = margins
    # Divided differences: m(x) = m2 + (x - x2) (slope + (x - x1) bend).
    slope = (m2 - m1) / (x2 - x1)
    bend = (slope - (m1 - m0) / (x1 - x0)) / (x2 - x0)
    # In t = x - x2: bend t^2 + half t + m2 = 0, by the formula that does not cancel.
    half = slope + bend * (x2 - x1)
    found: Tensor = x2 - 2 * m2 / (half - (half * half - 4 * bend * m2).sqrt())
    return found


def _next(
    low: Tensor, high: Tensor, tested: Tensor, margins: Tensor, margins_at_zero: Tensor, tolerance: float
) -> Tensor:
    slope, m2 = (margins[2] - margins[1]) / (tested[2] - tested[1]), margins[2]
    outside = low + (m2 / -slope / 3).nan_to_num(nan=torch.inf).where(slope < 0, torch.inf).clamp(0.3 * low, 9 * low)
    middle = (low + high) / 2
    bent, line = root(tested, margins), tested[2] - m2 / slope
    inside = bent.where((bent - middle).abs() < (high - low) / 2, line)
    inside = inside.where((inside - middle).abs() < (high - low) / 2, middle)
    # No closer to an end than what would finish the search, nor than a hundredth of the bracket.
    step = torch.maximum(0.7 * tolerance * high, (high - low) / 100)
    inside = torch.minimum(torch.maximum(inside, low + step), torch.maximum(high - step, middle))
    # Far from the end, where the margin is steeper than a parabola, the bracket is halved in the logarithm.
    halved = (torch.maximum(low, high / 64) * high).sqrt()
    return torch.where(high.isinf(), outside, torch.where(m2 < -margins_at_zero, halved, inside))
