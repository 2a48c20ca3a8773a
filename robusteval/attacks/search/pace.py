"""APGD's steps in L2 and Linf, with momentum, halved where they raise the loss too rarely.

Croce & Hein (2020), "Reliable evaluation of adversarial robustness", algorithm 1 and section 3.1. Deviation: an image
that goes back to its best point has no momentum in its next step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball

_MOMENTUM = 0.75
_RHO = 0.75
"""The step is halved where fewer than this share of the steps since the last checkpoint raised the loss."""
_FIRST_PERIOD, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06
"""The checkpoints' periods, over the iterations: the first, how much shorter each next one is, the last ones."""
_FIRST_STEP = 2.0


@dataclass(frozen=True)
class Pace:
    """Each image's step (N,), over the radius; how many steps raised its loss since the last checkpoint, its best loss
    there, and whether its step was halved there."""

    ball: Ball
    step: Tensor
    rises: Tensor
    top: Tensor
    halved: Tensor
    steps: int = 0

    @classmethod
    def begin(cls, ball: Ball) -> Self:
        zero = torch.zeros_like(ball.radius)
        return cls(ball, zero + _FIRST_STEP, zero, zero - torch.inf, torch.ones_like(zero, dtype=torch.bool))

    @staticmethod
    def checkpoints(iterations: int) -> frozenset[int]:
        """The numbers of steps after which the step size is decided."""
        found, at, period = [], 0.0, _FIRST_PERIOD
        while (at := at + period) < 1:
            found.append(max(1, math.ceil(at * iterations - 1e-9)))
            period = max(period - _SHORTER, _SHORTEST)
        return frozenset(found)

    def move(self, x: Tensor, before: Tensor, gradient: Tensor, first: bool) -> Tensor:
        """The next iterate: a projected step of steepest ascent, averaged with the last move."""
        full = self.ball.nearest(x + self.ball.step(self.step, self.ball.norm.steepest(gradient)))
        if first:
            return full
        return self.ball.nearest(x + _MOMENTUM * (full - x) + (1 - _MOMENTUM) * (x - before))

    def seen(self, value: Tensor, last: Tensor) -> Self:
        return replace(self, rises=self.rises + (value > last), steps=self.steps + 1)

    def checked(self, best: Tensor, value: Tensor) -> tuple[Self, Tensor]:
        """The pace from here on, and who goes back to the best point with a halved step (N,): those who rose too
        rarely, and those who have kept their step but not found a better point since the last checkpoint."""
        back = (self.rises < _RHO * self.steps) | (~self.halved & (self.top >= value))
        step = torch.where(back, self.step / 2, self.step)
        return type(self)(self.ball, step, torch.zeros_like(self.rises), value, back), back

    def select(self, rows: Tensor) -> Self:
        return type(self)(*keep(rows, self.ball, self.step, self.rises, self.top, self.halved), self.steps)
