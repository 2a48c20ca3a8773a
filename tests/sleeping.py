"""Layers that sleep, by which time spent inside the model is told from time spent outside.

They make both bounds exact on any machine, however busy: what slept inside the model must be in its seconds, and what
slept outside must not be, so that wall time less the latter is the most that they can be.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

FORWARD, BACK, THROUGH = 0.004, 0.005, 0.006
"""Seconds that a slow layer sleeps in a pass forward, in one back, and in one back through that."""

SHAPE, CLASSES = (1, 3, 3), 3
INSIDE: list[float] = []
OUTSIDE: list[float] = []
"""What slept inside and outside of the model, in seconds; a test begins with both empty."""


def nap(seconds: float, log: list[float]) -> None:
    time.sleep(seconds)
    log.append(seconds)


class _SlowBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, log: list[float]) -> Tensor:
        ctx.log = log
        nap(BACK, log)
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        nap(THROUGH, ctx.log)
        return gradients[0].clone(), None


class _Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log: list[float]) -> Tensor:
        ctx.log = log
        nap(FORWARD, log)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _SlowBack.apply(gradients[0], ctx.log), None  # type: ignore[no-untyped-call]


def slow(x: Tensor, log: list[float]) -> Tensor:
    """x itself, which takes a while in every direction."""
    y: Tensor = _Slow.apply(x, log)  # type: ignore[no-untyped-call]
    return y


class Sleepy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return slow(x, INSIDE)


def classifier(*last: nn.Module) -> Classifier:
    torch.manual_seed(0)
    layers = (nn.Flatten(), Sleepy(), nn.Linear(9, 4), nn.Tanh(), *last, nn.Linear(4, CLASSES))
    model = make_classifier("sleepy", nn.Sequential(*layers), SHAPE)
    INSIDE.clear()
    return replace(model, batch_size=4)


def pixels(n: int = 2) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
