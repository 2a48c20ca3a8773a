"""Bounds over one ball that serve smaller ones about the same image: linear bounds narrow with the radius."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robusteval.certify.propagation.values import Interval


@dataclass(frozen=True, eq=False)
class Narrowing:
    """An interval of a value over balls of radii eps (M,), whose lower end rises by at least `rise` and whose upper end
    falls by at least `fall`, (M, C, H, W) each, for each unit by which a radius shrinks."""

    eps: Tensor
    lower: Tensor
    upper: Tensor
    rise: Tensor
    fall: Tensor

    @classmethod
    def still(cls, eps: Tensor, interval: Interval) -> Narrowing:
        """An interval of which no more is known."""
        zero = torch.zeros_like(interval.lower)
        return cls(eps, interval.lower, interval.upper, zero, zero)

    @classmethod
    def unknown(cls, like: Interval, images: int) -> Narrowing:
        """What is known of so many images before anything was computed, of values as those in `like`."""
        zero = torch.zeros_like(like.lower[:1]).expand(images, -1, -1, -1).clone()
        eps = torch.full((images,), torch.inf, dtype=zero.dtype, device=zero.device)
        return cls(eps, zero - torch.inf, zero + torch.inf, zero, zero.clone())

    def at(self, eps: Tensor) -> Narrowing:
        """The same over balls of radii eps (M,); of those that are larger nothing is known."""
        less = (self.eps - eps).reshape(-1, 1, 1, 1)
        known, less = less >= 0, torch.where(less.isfinite(), less, 0.0).clamp_min(0) * (1 - 2.0**-50)
        lower = _down(self.lower + less * self.rise)
        upper = -_down(-self.upper + less * self.fall)
        return Narrowing(
            eps,
            torch.where(known, lower, -torch.inf),
            torch.where(known, upper, torch.inf),
            torch.where(known, self.rise, 0.0),
            torch.where(known, self.fall, 0.0),
        )

    def met(self, other: Narrowing) -> Narrowing:
        """What both allow over the same balls: of each end the tighter one, and how that moves. NaN stays NaN."""
        low, high = other.lower > self.lower, other.upper < self.upper
        return Narrowing(
            self.eps,
            torch.maximum(self.lower, other.lower),
            torch.minimum(self.upper, other.upper),
            torch.where(low, other.rise, self.rise),
            torch.where(high, other.fall, self.fall),
        )

    def of(self, rows: Tensor) -> Narrowing:
        return Narrowing(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: Tensor, other: Narrowing) -> None:
        """Write what is known of some of the images."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    @property
    def interval(self) -> Interval:
        return Interval(self.lower, self.upper)


def _down(x: Tensor) -> Tensor:
    """The next smaller number."""
    return torch.nextafter(x, torch.full_like(x, -torch.inf))
