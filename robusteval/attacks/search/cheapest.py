"""The smallest perturbation that a linear function asks for, not far from a given one: a step of a walk, in L1 and L2.

minimise |u|_p subject to <gradient, u - v> >= gain, |u - v| <= reach. Where no u within reach gains so much, the one
that gains most. (FAB, Croce & Hein 2020, projects on a linearised boundary likewise, without a reach.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def in_l1(v: Tensor, gradient: Tensor, gain: Tensor, reach: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """u (N, D) of the smallest L1 size: no entry farther than `reach` (N,) from that of v, and low <= u <= high (N, D),
    where low <= 0 <= high.

    A linear program with one constraint beside its bounds. Measured along the signs of the gradient, every entry comes
    as close to zero as it may; from there each costs its change and gains its derivative for it, so that the entries of
    the largest derivatives are moved as far as they may, and the last one as far as it must.
    """
    sign = torch.where(gradient < 0, -1.0, 1.0).to(v)
    rate, here = gradient.abs(), sign * v
    least = torch.maximum(here - reach[:, None], torch.where(sign > 0, low, -high))
    most = torch.minimum(here + reach[:, None], torch.where(sign > 0, high, -low))
    base = torch.minimum(least.clamp_min(0), most)
    room = most - base
    missing = (gain - (rate * (base - here)).sum(1))[:, None]
    order = rate.argsort(dim=1, descending=True)
    gains = (rate * room).gather(1, order)
    before = gains.cumsum(1) - gains
    share = torch.where(gains > 0, (missing - before) / gains, 0).clamp(0, 1)
    return sign * (base + room * torch.empty_like(share).scatter(1, order, share))


def in_l2(v: Tensor, gradient: Tensor, gain: Tensor, reach: Tensor) -> Tensor:
    """u (N, D) of the smallest L2 size no farther than `reach` (N,) from v: v shrunk, where that gains enough; else the
    part of v along the gradient changes as the boundary asks, and the rest shrinks by what is left of the reach."""
    tiny, gain, reach = torch.finfo(v.dtype).tiny, gain[:, None], reach[:, None]
    slope = gradient.norm(dim=1, keepdim=True).clamp_min(tiny)
    unit = gradient / slope
    along = (v * unit).sum(1, keepdim=True)
    across = v - along * unit
    step = (gain / slope).maximum(-reach).minimum(reach)
    left = (reach.square() - step.square()).clamp_min(0).sqrt()
    on = (along + step) * unit + _shrunk(across, left)
    less = _shrunk(v, reach)
    u: Tensor = torch.where((gradient * (less - v)).sum(1, keepdim=True) >= gain, less, on)
    return u


def _shrunk(v: Tensor, by: Tensor) -> Tensor:
    """v (N, D) closer to zero by a length (N, 1)."""
    shrunk: Tensor = v * (1 - by / v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)).clamp_min(0)
    return shrunk
