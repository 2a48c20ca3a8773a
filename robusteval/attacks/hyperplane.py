"""The shortest step from a point of the box [0, 1] onto a hyperplane, inside the box: exact, in closed form, batched.

Each pixel moves only along its own sign of the normal, by an amount between 0 and its room up to the wall; what remains
is to reach a given sum of (weight x amount) at the least size. In L1 the heaviest pixels go first, each to its wall.
In L2 (Linf) all move at speeds in the ratio of their weights (all equal), each until its wall; the time at which the
sum is reached is found by Newton's steps through the times at which pixels arrive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robusteval.core.norms import Norm, flat

_HEAVY = 8
"""In L1, one pixel in so many is tried first."""


def reach(points: Tensor, normals: Tensor, needed: Tensor, norm: Norm) -> Tensor:
    """The smallest step v in `norm` with <normals, v> = needed and points + v in [0, 1], (N, C, H, W).

    points, normals (N, C, H, W); needed (N,) of either sign. Where no point of the box lies on the hyperplane, the step
    ends as near to it as the box allows, every pixel with a weight at its wall. Exact up to rounding, which may carry
    points + v out of the box by a unit in the last place.
    """
    tiny = torch.finfo(points.dtype).tiny
    weights = flat(normals) * needed.sign()[:, None]
    direction, weights = weights.sign(), weights.abs()
    # The largest weight becomes 1: the squares of a vanishing gradient are zero, the gradient is not.
    peak = weights.amax(1, keepdim=True).clamp_min(tiny)
    weights, needed = weights / peak, needed.abs()[:, None] / peak
    x = flat(points)
    room = torch.where(direction > 0, 1 - x, x).clamp_min(0) * direction.abs()
    if norm is Norm.L1:
        amounts = _heaviest_first(weights, room, needed)
    else:
        amounts = _together(weights, room, needed, weights if norm is Norm.L2 else torch.ones_like(weights))
    return (direction * amounts).view_as(points)


def _heaviest_first(weights: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Amounts (N, D) of smallest sum, 0 <= amounts <= room, whose weighted sum is needed (N, 1). Few pixels do in most
    rows, and finding these takes a fraction of sorting all; where they do not, all are sorted."""
    heavy = weights.topk(math.ceil(weights.shape[1] / _HEAVY), dim=1)
    short = ((heavy.values * room.gather(1, heavy.indices)).sum(1) < needed[:, 0]).nonzero()[:, 0]
    amounts = _in_order(*heavy, room, needed)
    if len(short):
        every = weights[short].sort(1, descending=True)
        amounts[short] = _in_order(*every, room[short], needed[short])
    return amounts


def _in_order(ordered: Tensor, order: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Those amounts where the pixels `order` (N, k), of falling weights `ordered`, suffice; all others are 0."""
    limit = room.gather(1, order)
    gain = ordered * limit
    missing = needed - (gain.cumsum(1) - gain)
    amounts = torch.minimum((missing / ordered.clamp_min(torch.finfo(room.dtype).tiny)).clamp_min(0), limit)
    return torch.zeros_like(room).scatter(1, order, amounts)


def _together(weights: Tensor, room: Tensor, needed: Tensor, speed: Tensor) -> Tensor:
    """Amounts (N, D) min(room, time * speed) whose weighted sum is needed (N, 1).

    The sum is concave and piecewise linear in time: Newton's steps from 0 stay below the answer and end in its piece.
    """
    info = torch.finfo(room.dtype)
    arrival = torch.where(room > 0, room / speed, 0.0).clamp_max(info.max)
    rates = weights * speed
    time, ended = torch.zeros_like(needed), torch.zeros_like(needed, dtype=torch.bool)
    for _ in range(room.shape[1]):
        rate = torch.linalg.vecdot(rates, (arrival > time).to(rates))[:, None]
        reached = torch.linalg.vecdot(rates, torch.minimum(arrival, time))[:, None]
        later = torch.where(rate > 0, time + (needed - reached) / rate.clamp_min(info.tiny), time)
        ended = ended | (later <= time * (1 + 4 * info.eps))
        time = torch.where(ended, time, later)
        if ended.all():
            break
    return torch.minimum(room, time * speed)
