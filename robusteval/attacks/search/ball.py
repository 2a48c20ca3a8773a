"""The set of images that an attack with a budget may return: a ball around each image, cut by the box [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.core.norms import Norm, column, flat

DIAMETER = 2.0
"""Of a ball, in radii."""


@dataclass(frozen=True)
class Ball:
    """Balls of `radius` (N,) in `norm` around `centers` (N, C, H, W), cut by the box; low and high bound each pixel."""

    norm: Norm
    radius: Tensor
    centers: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, centers: Tensor, norm: Norm, radius: Tensor | float) -> Ball:
        """The bounds of an Linf ball are rounded inward, so that no pixel exceeds the radius by a rounding."""
        radii = torch.as_tensor(radius, dtype=torch.float64, device=centers.device).expand(len(centers))
        reach = column(radii, centers) if norm is Norm.LINF else 1.0
        low, high = (
            _rounded(centers.double() - reach, centers, 1.0),
            _rounded(centers.double() + reach, centers, 0.0),
        )
        return cls(norm, radii.to(centers), centers, low.clamp_min(0), high.clamp_max(1))

    def nearest(self, candidates: Tensor) -> Tensor:
        """Images (N, C, H, W) brought into the ball and the box; those inside stay as they are."""
        if self.norm is not Norm.LINF:
            candidates = self.centers + self.norm.project(candidates - self.centers, self._inward())
        return candidates.clamp(self.low, self.high)

    def moved(self, direction: Tensor) -> Tensor:
        """The centres moved by the radius along vectors (N, C, H, W) of the unit ball, brought into the ball and the
        box."""
        return self.nearest(self.centers + self.step(1.0, direction))

    def step(self, length: float | Tensor, direction: Tensor) -> Tensor:
        """A step of `length` times the radius (a number or (N,)) along unit directions (N, C, H, W)."""
        return column(length * self.radius, direction) * direction

    def climb(self, candidates: Tensor, gradient: Tensor, length: float) -> Tensor:
        """Images (N, C, H, W) moved by `length` times the radius along the Hölder maximiser of the gradient (OpNorm
        Eq. 15) and brought back into the ball.

        In L1 that maximiser is a single pixel, of which the box leaves little: there the step is the maximiser
        within the box, which fills the pixels with the largest gradient one after another. As long as the diameter or
        longer it ends at that of the whole ball, whatever `candidates`: so does Eq. 17, whose projection of
        v + 2 e_i, |v|_1 <= 1, on the unit ball is e_i, and of nothing but e_i the longer the step is.
        """
        if self.norm is Norm.L1:
            start, far = (self.centers, 1.0) if length >= DIAMETER else (candidates, length)
            return self.nearest(start + self._fill(start, gradient, far * self.radius))
        return self.nearest(candidates + self.step(length, self.norm.steepest(gradient)))

    def _fill(self, candidates: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
        """The v with |v|_1 <= length (N,) and images + v in the box that maximises <v, gradient>."""
        slope = flat(gradient)
        room = flat(torch.where(gradient > 0, self.high - candidates, candidates - self.low)) * (slope != 0)
        order = slope.abs().argsort(dim=1, descending=True, stable=True)
        ordered = room.gather(1, order)
        taken = (length[:, None] - (ordered.cumsum(1) - ordered)).clamp_min(0).minimum(ordered)
        return (torch.zeros_like(slope).scatter(1, order, taken) * slope.sign()).view_as(gradient)

    def select(self, rows: Tensor) -> Ball:
        return Ball(self.norm, *keep(rows, self.radius, self.centers, self.low, self.high))

    def _inward(self) -> Tensor:
        """The radii less what rounding can add: half a unit in the last place of each of the D pixels, which is at
        most eps / 4, and a few units in the size itself."""
        eps, size = torch.finfo(self.centers.dtype).eps, self.centers[0].numel()
        worst = eps / 4 * (size if self.norm is Norm.L1 else math.sqrt(size))
        return (self.radius * (1 - 8 * eps) - worst).clamp_min(0)


def _rounded(exact: Tensor, like: Tensor, towards: float) -> Tensor:
    """float64 values in the dtype of `like`, rounded towards 0 or 1."""
    near = exact.to(like.dtype)
    beyond = near.double() < exact if towards else near.double() > exact
    return torch.where(beyond, torch.nextafter(near, torch.full_like(near, towards)), near)
