"""Activations made of straight pieces, as ReLUs and what is linear around them: exactly, so that whatever treats a
ReLU treats them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.certify.propagation.ops import Add, Max, Scale
from robusteval.certify.propagation.pieces import Piece, Pieces, single
from robusteval.certify.propagation.places import Shape, Windows


class Absolute(nn.Module):
    """The magnitude of each entry, which torch has as a function alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


def rectifier(before: Shape) -> Max:
    """max(x, 0), entry by entry."""
    return Max(Windows((1, 1), (1, 1), (0, 0), (1, 1), before[1:]), floor=True)


def plain_relu(module: nn.Module, before: Shape, after: Shape) -> Pieces | None:
    return single(rectifier(before), after)


def leaky(module: nn.LeakyReLU | nn.PReLU | nn.RReLU, before: Shape, after: Shape) -> Pieces | None:
    """x below zero is a x: a x + (1 - a) max(x, 0), of one slope a or one for each channel."""
    if isinstance(module, nn.PReLU):
        return _bent(module.weight.detach().double().reshape(-1, 1, 1), before)
    if isinstance(module, nn.RReLU):
        return (
            None
            if module.training
            else _bent(torch.tensor((module.lower + module.upper) / 2, dtype=torch.float64), before)
        )
    return _bent(torch.tensor(module.negative_slope, dtype=torch.float64), before)


def absolute_value(module: Absolute, before: Shape, after: Shape) -> Pieces | None:
    return _bent(torch.tensor(-1.0, dtype=torch.float64), before)


def _bent(slope: Tensor, shape: Shape) -> Pieces:
    return Piece(rectifier(shape), shape), Piece(Add((slope, 1 - slope)), shape, (0, 1), shown=True)


def clamped(module: nn.Hardtanh | nn.ReLU6, before: Shape, after: Shape) -> Pieces | None:
    """Between two ends, either of which may be infinite."""
    return _between(before, float(module.min_val), float(module.max_val))


def hard_sigmoid(module: nn.Hardsigmoid, before: Shape, after: Shape) -> Pieces | None:
    """x + 3 between 0 and 6, over 6."""
    return (_linear(before, 1.0, 3.0), *_between(before, 0.0, 6.0)[:-1], _linear(before, -1 / 6, 1.0, shown=True))


def _between(shape: Shape, low: float, high: float) -> Pieces:
    """low + max(x - low, 0) = z from below, and high - max(high - z, 0)."""
    once: Pieces = (Piece(rectifier(shape), shape),)
    if math.isinf(high):
        if low == 0:
            return (Piece(rectifier(shape), shape, shown=True),)
        return (_linear(shape, 1.0, -low), *once, _linear(shape, 1.0, low, shown=True))
    if math.isinf(low):
        return (_linear(shape, -1.0, high), *once, _linear(shape, -1.0, high, shown=True))
    first: Pieces = once if low == 0 else (_linear(shape, 1.0, -low), *once)
    return (*first, _linear(shape, -1.0, high - low), *once, _linear(shape, -1.0, high, shown=True))


def _linear(shape: Shape, scale: float, shift: float, *, shown: bool = False) -> Piece:
    factor, moved = (torch.full(shape, value, dtype=torch.float64) for value in (scale, shift))
    return Piece(Scale(factor, moved, moved.abs(), 5), shape, shown=shown)


RECTIFIERS: dict[type[nn.Module], Any] = {
    nn.ReLU: plain_relu,
    nn.LeakyReLU: leaky,
    nn.PReLU: leaky,
    nn.RReLU: leaky,
    nn.ReLU6: clamped,
    nn.Hardtanh: clamped,
    nn.Hardsigmoid: hard_sigmoid,
    Absolute: absolute_value,
}
