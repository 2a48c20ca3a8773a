"""Moves of a walk along the boundary (search/boundary.py): the next iterate, from the margin and its gradient.

`Rescaled` goes uphill and brings the perturbation to the size at which the linearised boundary lies: it turns slowly
and passes by much. (Rony et al. 2019 change the size by a fixed share, Pintor et al. 2021 by the linearised distance
until there is an example.) `Solved` takes the smallest perturbation within reach on the boundary as it is linearised by
the mean of the gradients (search/cheapest.py): it comes to the floor of a minimum sooner, and in L1 to a better one.
All lengths are relative to the distance of the iterate: nothing is tuned to the size of images or to that of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from robusteval.attacks.search import cheapest
from robusteval.attacks.search.apgd_l1 import project as project_l1
from robusteval.attacks.search.box import free
from robusteval.core.norms import Norm, column, flat

AHEAD = 1.05
"""Before there is an example, a rescaled step aims so much farther than the linearised boundary."""
BEYOND = 1e-4
"""Otherwise a move aims so far beyond that boundary, over the distance: on it, rounding would decide the class."""
CLOSER = 0.999
"""The next rescaled iterates are to be closer than the closest example by this factor."""
NEAREST = 1e-3
"""Steps are relative to the distance, but to no smaller one than this."""
LEAST = 0.1
"""A solved move's length is over the size of the iterate, but over no smaller one than this share of the closest
example's: an iterate that fell short, back to its center, must be able to leave it."""


@dataclass(frozen=True)
class Here:
    """Where M walks are, `x` (M, C, H, W), at distances `size` (M,): the margin (M,) and its gradient there, and the
    distance of the closest example (M,), infinite where there is none yet."""

    x: Tensor
    gradient: Tensor
    margin: Tensor
    size: Tensor
    closest: Tensor


class Move(Protocol):
    def __call__(self, here: Here, length: float, change: float) -> Tensor:
        """The next iterates (M, C, H, W), by a step of `length` over the distance; of that a rescaled one gives up or
        adds at most the share `change`."""


class Rescaled:
    """Along the mean of the gradients in L2, along its signs in Linf, in L1 along its squares with their signs, which
    moves fewer entries."""

    momentum = 0.5

    def __init__(self, centers: Tensor, norm: Norm) -> None:
        self.centers, self.norm = centers, norm
        self.measure = Norm.L2 if norm is Norm.L1 else norm
        corner = torch.maximum(centers, 1 - centers)
        self.farthest, self.widest = norm.size(corner), self.measure.size(corner)
        self.uphill = torch.zeros_like(centers)

    def __call__(self, here: Here, length: float, change: float) -> Tensor:
        x, found, distance = here.x, here.closest.isfinite(), here.size.clamp_min(NEAREST)
        gradient = free(here.gradient, x)
        away = _away(gradient, here.margin, self.norm)
        most = change * distance
        closer = (here.size + (away + BEYOND * here.size).clamp(-most, most)).minimum(CLOSER * here.closest)
        farther = here.size + AHEAD * away.clamp_min(0) + NEAREST * most
        size = torch.where(found, closer, farther).minimum(self.farthest)
        self.uphill = self.momentum * self.uphill + (1 - self.momentum) * Norm.L2.steepest(gradient)
        reach = torch.where(found, 0, AHEAD * _away(gradient, here.margin, self.measure))
        scale = self.measure.size(x - self.centers).maximum(reach).minimum(self.widest).clamp_min(NEAREST)
        along = self.uphill * self.uphill.abs() if self.norm is Norm.L1 else self.uphill
        v = x - self.centers + column(length * scale, x) * self.measure.steepest(along)
        return (self.centers + self._brought(v, size)).clamp(0, 1)

    def _brought(self, v: Tensor, size: Tensor) -> Tensor:
        """A perturbation of a size (N,) at most; in L2 of exactly that size before it is cut by the box."""
        if self.norm is Norm.L1:
            return project_l1(v, size, -self.centers, 1 - self.centers)
        return self.norm.scale_to(v, size) if self.norm is Norm.L2 else self.norm.project(v, size)


class Solved:
    """In L1 and L2. The mean begins at nothing, so that the first moves reach too far rather than too short."""

    momentum = 0.8

    def __init__(self, centers: Tensor, norm: Norm) -> None:
        self.centers, self.norm = centers, norm
        self.measure = Norm.LINF if norm is Norm.L1 else norm
        self.scale = self.measure.size(torch.maximum(centers, 1 - centers))
        self.mean = torch.zeros_like(centers)

    def __call__(self, here: Here, length: float, change: float) -> Tensor:
        """In L1 the size of which a move reaches a share is that of the largest change, and the reach a pixel's."""
        v = here.x - self.centers
        # In L1 the box is part of the program, where what it stops still counts: without a derivative it would go back.
        gradient = here.gradient if self.norm is Norm.L1 else free(here.gradient, here.x)
        self.mean = self.momentum * self.mean + (1 - self.momentum) * gradient
        gain = BEYOND * here.size.clamp_min(NEAREST) * self.norm.dual.size(self.mean) - here.margin
        size = self.measure.size(v)
        self.scale = torch.where(here.size == here.closest, size, self.scale)
        found = here.closest.isfinite()
        reach = length * torch.where(found, size.maximum(LEAST * self.scale), self.scale).clamp_min(NEAREST)
        asked = flat(v), flat(self.mean), gain, reach
        if self.norm is Norm.L1:
            u = cheapest.in_l1(*asked, flat(-self.centers), flat(1 - self.centers))
        else:
            u = cheapest.in_l2(*asked)
        return (self.centers + u.view_as(v)).clamp(0, 1)


def _away(gradient: Tensor, margin: Tensor, norm: Norm) -> Tensor:
    """How far the linearised boundary lies ahead, (N,); negative behind it."""
    return -margin / norm.dual.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
