"""Proximal operators of prices of distances, weighted and in the box: for each image the u in [low, high], low <= 0 <=
high, that minimises sum weight / 2 (u - v)^2 + price * size(u).

All tensors are (N, C, H, W), prices (N,); weights are positive. A price may belong to the sum of |u|^(2/3) (of L0 an
approximation), |u|_1, |u|_2 or |u|_inf (Parikh & Boyd 2014, section 6; the box and the weights are as easy).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.core.norms import column, flat

Proximal = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
NEWTON, MOST_NEWTON = 8, 40
"""Steps of Newton's method where each comes nearer, and at most where an equation has kinks."""
DONE = 32
"""An equation holds to so many roundings."""


def prox_l1(v: Tensor, price: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Soft thresholding, cut off by the box."""
    return ((v.abs() - column(price, v) / weight).clamp_min(0) * v.sign()).clamp(low, high)


def prox_two_thirds(v: Tensor, price: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Zero or the larger root of u - |v| + 2/3 price / weight u^(-1/3), whichever costs less: with w^3 = u that of a
    convex quartic in w, which Newton's steps approach from above. Where the box cuts it off, its end or zero."""
    size, room = v.abs(), torch.where(v > 0, high, -low)
    cost = column(price, v) / weight
    root = size ** (1 / 3)
    for _ in range(NEWTON):
        slope = 4 * root**3 - size
        root = torch.where(slope > 0, root - ((root**3 - size) * root + cost * (2 / 3)) / slope, 0).clamp_min(0)
    inside = torch.minimum(root**3, room)
    worth = (size - inside / 2) * inside > cost * torch.minimum(root, room ** (1 / 3)) ** 2
    return torch.where(worth, inside * v.sign(), 0)


def prox_l2(v: Tensor, price: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """With n the size of the result, u = weight v n / (weight n + price), cut off by the box; n by Newton's method on
    the equation |u(n)| / n = 1, inverted, which makes it nearly straight (Moré & Sorensen 1983), in a bracket."""
    room = flat(torch.where(v > 0, high, -low))
    h, pull = flat(weight.expand_as(v)), torch.where(room > 0, flat(weight * v.abs()), 0)
    price, tiny = price[:, None], torch.finfo(v.dtype).tiny
    most = torch.minimum(flat(v).abs(), room).norm(dim=1, keepdim=True).clamp_min(tiny)
    size, least = most, torch.zeros_like(most)
    for _ in range(MOST_NEWTON):
        firm = h * size + price
        free, cut = pull / firm, room / size
        whole = torch.minimum(free, cut).square()
        fall = (whole - whole * (free < cut) * (price / firm)).sum(1, keepdim=True) / size
        total = whole.sum(1, keepdim=True)
        least, most = torch.where(total > 1, size, least), torch.where(total > 1, most, size)
        done = (total - 1).abs() <= DONE * torch.finfo(v.dtype).eps
        if done.all():
            break
        step = size - total * (1 - total.sqrt()) / fall.clamp_min(tiny)
        step = torch.where((step > least) & (step < most), step, (least + most) / 2).clamp_min(tiny)
        size = torch.where(done, size, step)
    found = torch.minimum(pull * size / (h * size + price), room)
    found = torch.where(pull.norm(dim=1, keepdim=True) > price, found, 0)
    return found.view_as(v) * v.sign()


def prox_linf(v: Tensor, price: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clipping at the level at which the weighted excess of the entries that it cuts, sum weight (|v| - level), is the
    price. Those that the box holds below the level are not cut by it."""
    size = flat(v.abs())
    top, order = torch.minimum(size, flat(torch.where(v > 0, high, -low))).sort(dim=1, descending=True)
    h = flat(weight.expand_as(v)).gather(1, order)
    weights, pulls = h.cumsum(1), (h * size.gather(1, order)).cumsum(1)
    below = torch.cat([top[:, 1:], torch.zeros_like(top[:, :1])], dim=1)
    short = (pulls - weights * below < price[:, None]).sum(1, keepdim=True)
    last = short.clamp_max(top.shape[1] - 1)
    level = ((pulls.gather(1, last) - price[:, None]) / weights.gather(1, last)).minimum(top.gather(1, last))
    level = column(torch.where(short < top.shape[1], level, 0)[:, 0].clamp_min(0), v)
    return v.clamp(low, high).clamp(-level, level)
