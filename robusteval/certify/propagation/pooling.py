"""Poolings of torch -> layers that bounds pass through."""

from __future__ import annotations

from typing import Any

from torch import nn

from robusteval.certify.propagation.along_axes import AlongAxes, adaptive_windows_of_mean, windows_of_mean
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.pieces import Pieces, on_plane, single
from robusteval.certify.propagation.places import Shape, Windows


def average_pool(module: nn.AvgPool1d | nn.AvgPool2d, before: Shape, after: Shape) -> Pieces | None:
    """Windows that are divided by their length, with or without padding, or by a number."""
    rank, stride = _rank(module), module.stride if module.stride is not None else module.kernel_size
    sides = zip(
        *(before[1:], after[1:], on_plane(module.kernel_size, rank, 1), on_plane(stride, rank, 1)),
        on_plane(module.padding, rank, 0),
        (getattr(module, "divisor_override", None), None),
        strict=True,
    )
    own = [
        # A divisor stands for the whole window: rows take it, columns are summed.
        windows_of_mean(*numbers, padded=module.count_include_pad, divisor=divisor)
        for *numbers, divisor in _whole(sides)
    ]
    return single(AlongAxes(None, *own), after)


def _whole(sides: Any) -> list[Any]:
    first, second = sides
    return [first, second if first[-1] is None else (*second[:-1], 1)]


def adaptive_average_pool(module: nn.Module, before: Shape, after: Shape) -> Pieces | None:
    sides = zip(before[1:], after[1:], strict=True)
    rows, columns = (None if b == a else adaptive_windows_of_mean(b, a) for b, a in sides)
    return single(AlongAxes(None, rows, columns), after)


def max_pool(module: nn.MaxPool1d | nn.MaxPool2d, before: Shape, after: Shape) -> Pieces | None:
    rank, stride = _rank(module), module.stride if module.stride is not None else module.kernel_size
    if module.return_indices or on_plane(module.dilation, rank, 1) != (1, 1):
        return None
    kernel, steps = on_plane(module.kernel_size, rank, 1), on_plane(stride, rank, 1)
    padding = on_plane(module.padding, rank, 0)
    sides = zip(before[1:], after[1:], kernel, steps, padding, strict=True)
    over = tuple(max(0, (a - 1) * s + k - (b + 2 * p)) for b, a, k, s, p in sides)
    return single(Max(Windows(kernel, steps, padding, (1, 1), before[1:], (over[0], over[1])), floor=False), after)


def adaptive_max_pool(module: Any, before: Shape, after: Shape) -> Pieces | None:
    """Where the windows are of one size."""
    if module.return_indices or any(b % a for b, a in zip(before[1:], after[1:], strict=True)):
        return None
    kernel = before[1] // after[1], before[2] // after[2]
    return single(Max(Windows(kernel, kernel, (0, 0), (1, 1), before[1:]), floor=False), after)


def _rank(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.AvgPool1d | nn.MaxPool1d) else 2
