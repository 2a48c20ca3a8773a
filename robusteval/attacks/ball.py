"""The set of pictures that an attack with a budget may return: a ball around each image, cut by the box [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.norms import Norm


@dataclass(frozen=True)
class Ball:
    """Balls of `radius` in `norm` around `centers` (N, C, H, W), cut by the box; low and high bound each pixel."""

    norm: Norm
    radius: float
    centers: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, centers: Tensor, norm: Norm, radius: float) -> Ball:
        """The bounds of an Linf ball are rounded inward, so that no pixel exceeds the radius by a rounding."""
        reach = radius if norm is Norm.LINF else 1.0
        low, high = (
            _rounded(centers.double() - reach, centers, 1.0),
            _rounded(centers.double() + reach, centers, 0.0),
        )
        return cls(norm, radius, centers, low.clamp_min(0), high.clamp_max(1))

    def nearest(self, pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W) brought into the ball and the box; those inside stay as they are."""
        if self.norm is not Norm.LINF:
            pictures = self.centers + self.norm.project(pictures - self.centers, self._inward())
        return pictures.clamp(self.low, self.high)

    def _inward(self) -> float:
        """The radius less what rounding can add: half a unit in the last place of each of the D pixels, which is at
        most eps / 4, and a few units in the size itself."""
        eps, size = torch.finfo(self.centers.dtype).eps, self.centers[0].numel()
        worst = eps / 4 * (size if self.norm is Norm.L1 else math.sqrt(size))
        return max(0.0, self.radius * (1 - 8 * eps) - worst)

    def select(self, rows: Tensor) -> Ball:
        return Ball(self.norm, self.radius, self.centers[rows], self.low[rows], self.high[rows])


def _rounded(exact: Tensor, like: Tensor, towards: float) -> Tensor:
    """float64 values in the dtype of `like`, rounded towards 0 or 1."""
    near = exact.to(like.dtype)
    beyond = near.double() < exact if towards else near.double() > exact
    return torch.where(beyond, torch.nextafter(near, torch.full_like(near, towards)), near)
