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
    than `tolerance`, relative. The next radius is where a straight line says that the margin is gone: through the
    last two certified ones (not all the way, the margin falls faster) until one fails, then through the largest
    certified and the smallest failed one (the Illinois rule, and at least a tenth of the bracket from its ends).
    """
    low, high = torch.zeros_like(clean), torch.full_like(clean, torch.inf)
    at_low, at_high = clean.clone(), torch.full_like(clean, torch.nan)
    # The last certified radius but one and its margin.
    before, at_before = low.clone(), clean.clone()
    ahead = start.minimum(reach)
    for _ in range(ROUNDS):
        rows = ((clean > 0) & (high - low > tolerance * high.clamp_max(1e300)) & (low < reach)).nonzero()[:, 0]
        rows = rows[high[rows] > SMALLEST * reach[rows]]
        if not len(rows):
            break
        radius = ahead[rows]
        found = margin(rows, radius)
        right = found > 0
        won, lost = rows[right], rows[~right]
        at_high[won] /= 2
        before[won], at_before[won] = low[won], at_low[won]
        low[won], at_low[won] = radius[right], found[right]
        at_low[lost] = torch.where(high[lost].isfinite(), at_low[lost] / 2, at_low[lost])
        high[lost], at_high[lost] = radius[~right], found[~right]
        ahead = _next(low, high, at_low, at_high, before, at_before, tolerance).minimum(reach)
    return low


def _next(
    low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, before: Tensor, at_before: Tensor, tolerance: float
) -> Tensor:
    falling = (at_before - at_low) / (low - before)
    further = torch.where(falling > 0, 0.6 * at_low / falling, torch.inf).nan_to_num(nan=torch.inf)
    outside = low + further.clamp(0.3 * low, 9 * low)
    share = (at_low / (at_low - at_high)).nan_to_num(nan=0.5).clamp(0.1, 0.9)
    inside = low + share * (high - low)
    # No closer to an end than what would finish the search.
    inside = inside.clamp(low * (1 + 0.7 * tolerance), high * (1 - 0.7 * tolerance))
    return torch.where(high.isfinite(), inside, outside)
