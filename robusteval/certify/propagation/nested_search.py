"""The largest radius that a dear bound certifies, with the help of a cheap one that lives on what the dear one left.

A dear bound over a ball is made of linear bounds inside the network, which hold over every smaller ball about the same
image and narrow with it. So a radius that failed is not lost: the cheap bound finds at once a smaller radius that is
proven.

Where to look next: over a ball of radius r the margins' linear bounds promise to stay positive up to some f(r), and the
radius that is looked for is where f(r) = r. What a promise loses grows about like a power of r, f(0) - f(r) = c r^p; on
trained networks p is near 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.certify.propagation.radius_search import ROUNDS, SMALLEST, Margin, largest_radius

POWER = 4.0
FIRST = 0.2
"""The radius tried first, relative to f(0)."""
AIM = 0.3
"""How far above the radius that is looked for the next is tried, in tolerances: a failure says more than a success."""
USUAL = 0.2
"""How far the cheap bound falls short, relative to how far the radius that failed was too large."""

Promise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(rows of images (R,), radii (R,)) -> margins (R,), certified where positive, and f (R,), a promise."""


def nested_radius(
    dear: Promise, cheap: Margin, clean: Tensor, promised: Tensor, start: Tensor, largest: Tensor, tolerance: float
) -> Tensor:
    """The largest radius found at which a margin was positive, (N,), 0 where none was.

    cheap: margins at radii that are no larger than the last given to `dear` for the same image. clean (N,): the margin
    at radius 0, nothing is searched where it is not positive; promised (N,): f(0); start (N,): the first radius tried,
    0 for none in particular; largest (N,): the largest that makes sense. An image is done when `dear` failed at a
    radius that is larger by no more than `tolerance`, relative.
    """
    low, high = torch.zeros_like(clean), torch.full_like(clean, torch.inf)
    # The last two radii tried and their f.
    radius, reach = torch.stack([low, low]), torch.stack([promised, promised])
    guess = FIRST * torch.where(promised > 0, promised, largest)
    tried = torch.where(start > 0, start, guess).minimum(largest)
    for _ in range(ROUNDS):
        open_ = (clean > 0) & (high - low > tolerance * high.clamp_max(1e300)) & (low < largest)
        rows = (open_ & (high > SMALLEST * largest)).nonzero()[:, 0]
        if not len(rows):
            break
        radius[:, rows] = torch.stack([radius[1, rows], tried[rows]])
        margin, found = dear(rows, tried[rows])
        reach[:, rows] = torch.stack([reach[1, rows], found])
        right = margin > 0
        low[rows[right]], high[rows[~right]] = tried[rows[right]], tried[rows[~right]]
        if not right.all():
            failed = rows[~right]
            low[failed] = _below(cheap, failed, clean[failed], low[failed], high[failed], tolerance)
        tried = _next(low, high, promised, radius, reach, tolerance).minimum(largest)
    return low


def _below(cheap: Margin, rows: Tensor, clean: Tensor, low: Tensor, high: Tensor, tolerance: float) -> Tensor:
    """The largest radius between low and high that the cheap bound certifies."""

    def margin(some: Tensor, radii: Tensor) -> Tensor:
        return cheap(rows[some], radii)

    start = torch.maximum(low * (1 + tolerance), 0.8 * high)
    return torch.maximum(low, largest_radius(margin, clean, start, high * (1 - tolerance / 4), tolerance / 4))


def _next(low: Tensor, high: Tensor, promised: Tensor, radius: Tensor, reach: Tensor, tolerance: float) -> Tensor:
    """A little above where f(r) = r by the last two points; where they say nothing, a usual part of the way up from
    what is proven, or far down from what is not."""
    aimed = _meeting(promised, radius, reach) * (1 + AIM * tolerance)
    usual = torch.where(low > 0, (low + USUAL * high) / (1 + USUAL), high / 4)
    aimed = aimed.where((aimed > low) & (aimed < high), torch.where(high.isinf(), 2 * low, usual))
    least = torch.maximum(low * (1 + 0.5 * tolerance), low + 0.01 * (high - low).clamp_max(1e300))
    least = torch.where(high.isinf(), low * (1 + tolerance), least)
    return torch.minimum(torch.maximum(aimed, least), torch.where(high.isinf(), 4 * low, high - 0.1 * (high - low)))


def _meeting(promised: Tensor, radius: Tensor, reach: Tensor) -> Tensor:
    """The r with f(r) = r, by what was lost at the last two radii (2, N); NaN where nothing was."""
    first, last = (promised - reach).unbind()
    power = ((last / first).log() / (radius[1] / radius[0]).log()).nan_to_num(POWER, POWER, POWER).clamp(1.5, 8)
    below, above = torch.zeros_like(promised), promised
    for _ in range(40):
        middle = (below + above) / 2
        kept = promised - last * (middle / radius[1]) ** power > middle
        below, above = torch.where(kept, middle, below), torch.where(kept, above, middle)
    return torch.where((last > 0) & (promised > 0), below, torch.nan)
