"""APGD's geometry in L1: projection on the ball cut by the box, steps along few pixels, and their adaptive number.

Croce & Hein (2021), "Mind the box": Proposition 2.1 (projection), section 3 and algorithm 1 (sparse step, sparsity of
the best point). The projection is solved by one sort of its breakpoints; the paper's proof walks through the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.core.norms import Norm, column, flat

_FIRST_SHARE = 0.2
"""The share of the pixels that the first steps move."""
_DENSER = 1.5
"""A step moves this many times fewer pixels than the best point has moved."""
_SPARSER = 0.95
"""Below this share of its last count of moved pixels, the best point counts as sparser."""
_SHRINK, _SMALLEST = 1.5, 0.1
"""What divides the step where it is not, and the smallest step, over the radius."""


def project(v: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The Euclidean projection of v (N, ...) on {|u|_1 <= radius (N,), low <= u <= high}, where low <= 0 <= high.

    It is sign(v) * clamp(|v| - level, 0, room) with the smallest level >= 0 that fits; its size falls piecewise
    linearly with the level, one unit faster from |v| - room on and one slower from |v| on, for each pixel.
    """
    size = flat(v).abs()
    room = torch.where(flat(v) > 0, flat(high), -flat(low))
    zeros = size.new_zeros(len(size), 1)
    breaks, order = torch.cat([zeros, (size - room).clamp_min(0), size], dim=1).sort(dim=1)
    pixels = size.shape[1]
    slopes = torch.where(order == 0, 0.0, torch.where(order <= pixels, 1.0, -1.0)).to(size).cumsum(dim=1)
    spent = torch.cat([zeros, (slopes[:, :-1] * breaks.diff(dim=1)).cumsum(dim=1)], dim=1)
    excess = torch.minimum(size, room).sum(dim=1, keepdim=True) - radius[:, None]
    last = (spent < excess).sum(dim=1, keepdim=True).sub(1).clamp_min(0)
    past = (excess - spent.gather(1, last)).clamp_min(0)
    level = breaks.gather(1, last) + past / slopes.gather(1, last).clamp_min(1)
    return (flat(v).sign() * torch.minimum((size - level).clamp_min(0), room)).view_as(v)


@dataclass(frozen=True)
class SparsePace:
    """Each image's step (N,), over the radius, how many pixels (N,) it moves, and how many the best point had moved."""

    ball: Ball
    step: Tensor
    pixels: Tensor
    moved: Tensor

    @classmethod
    def begin(cls, ball: Ball) -> Self:
        one, size = torch.ones_like(ball.radius), ball.centers[0].numel()
        return cls(ball, one, _FIRST_SHARE * size * one, size * one)

    @staticmethod
    def checkpoints(iterations: int) -> frozenset[int]:
        return frozenset(range(0, iterations, max(1, iterations // 25))) - {0}

    @staticmethod
    def nearest(ball: Ball, candidates: Tensor) -> Tensor:
        """Unlike ball.nearest, which cuts by the ball and then by the box, it leaves no budget unspent."""
        low, high = ball.low - ball.centers, ball.high - ball.centers
        return ball.nearest(ball.centers + project(candidates - ball.centers, ball.radius, low, high))

    def move(self, x: Tensor, before: Tensor, gradient: Tensor, first: bool) -> Tensor:
        """A step of equal size along each of the pixels with the largest derivatives; there is no momentum."""
        size = flat(gradient).abs()
        rank = self.pixels.long().clamp(1, size.shape[1])
        least = size.sort(dim=1, descending=True).values.gather(1, rank[:, None] - 1)
        signs = torch.where(column(least, x) <= gradient.abs(), gradient.sign(), 0.0)
        return self.nearest(self.ball, x + self.ball.step(self.step, Norm.L1.scale_to(signs, 1.0)))

    def seen(self, value: Tensor, last: Tensor) -> Self:
        return self

    def checked(self, best: Tensor, value: Tensor) -> tuple[Self, Tensor]:
        """The pace from here on, and who goes back to the best point: those whose best point grew sparser."""
        moved = Norm.L0.size(best - self.ball.centers).to(self.step)
        sparser = moved < _SPARSER * self.moved
        step = torch.where(sparser, 1.0, (self.step / _SHRINK).clamp_min(_SMALLEST))
        return type(self)(self.ball, step, moved / _DENSER, moved), sparser

    def select(self, rows: Tensor) -> Self:
        return type(self)(*keep(rows, self.ball, self.step, self.pixels, self.moved))
