"""Matrices along the axes of a plane: averages, sums and whatever else treats rows and columns apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.certify.propagation.ops import Affine
from robusteval.certify.propagation.places import Box


@dataclass(frozen=True, eq=False)
class AlongAxes(Affine):
    """y = (A x B x C) x for matrices of the channels (C', C), the rows (H', H) and the columns (W', W), None for an
    axis that stays as it is; and a bias that broadcasts to the output."""

    channels: Tensor | None
    rows: Tensor | None
    columns: Tensor | None
    offset: Tensor | None = None

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        return tuple(m for m in (self.channels, self.rows, self.columns) if m is not None)

    @property
    def rounded(self) -> int:
        """The terms of a sum, a division for each axis, and some room for how the weights are computed."""
        return math.prod(_most(m, 1) for m in self.matrices) + 5

    @property
    def fan_out(self) -> int:
        return math.prod(_most(m, 0) for m in self.matrices) + 3

    @property
    def bias(self) -> Tensor | None:
        return self.offset

    def sources(self, box: Box) -> tuple[Box, ...]:
        top, height = _span(self.rows, box.top, box.height)
        left, width = _span(self.columns, box.left, box.width)
        return (Box(top, left, height, width),)

    def apply(self, *x: Tensor) -> Tensor:
        return _along(x[0], self.channels, self.rows, self.columns)

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        (seen,) = self.sources(box)
        rows = None if self.rows is None else _part(self.rows, box.top, box.height, seen.top, seen.height)
        columns = None if self.columns is None else _part(self.columns, box.left, box.width, seen.left, seen.width)
        back = (None if m is None else m.T.to(a) for m in (self.channels, rows, columns))
        return ((_along(a, *back), seen),)

    def absolute(self) -> AlongAxes:
        channels, rows, columns = (None if m is None else m.abs() for m in (self.channels, self.rows, self.columns))
        return replace(self, channels=channels, rows=rows, columns=columns)


def _along(x: Tensor, channels: Tensor | None, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    if columns is not None:
        x = x @ columns.T
    if rows is not None:
        x = rows @ x
    return x if channels is None else (channels @ x.flatten(2)).unflatten(2, x.shape[2:])


def _most(matrix: Tensor, dim: int) -> int:
    return max(1, int((matrix != 0).sum(dim).max()))


def _span(matrix: Tensor | None, start: int, length: int) -> tuple[int, int]:
    """Where the inputs lie that so many outputs from `start` on depend on: the first, and how many."""
    if matrix is None:
        return start, length
    used = (matrix[start : start + length] != 0).any(0).nonzero()[:, 0].tolist()
    return (used[0], used[-1] - used[0] + 1) if used else (0, 0)


def _part(matrix: Tensor, top: int, height: int, left: int, width: int) -> Tensor:
    return matrix[top : top + height, left : left + width]


def windows_of_mean(
    before: int, after: int, kernel: int, stride: int, padding: int, *, padded: bool, divisor: int | None
) -> Tensor:
    """The matrix (after, before) of average pooling along one axis, as torch's windows lie.

    padded: whether padding counts in a window's length (what hangs over it by ceil_mode never does); divisor: what to
    divide by instead of the length.
    """
    start = torch.arange(after)[:, None] * stride - padding
    end = (start + kernel).clamp_max(before + padding)
    at = torch.arange(before)
    inside = ((at >= start) & (at < end)).double()
    length = (end - start).double() if padded else inside.sum(1, keepdim=True)
    return inside / (length.clamp_min(1) if divisor is None else divisor)


def adaptive_windows_of_mean(before: int, after: int) -> Tensor:
    """The matrix (after, before) of adaptive average pooling along one axis."""
    number, at = torch.arange(after)[:, None], torch.arange(before)
    start, end = number * before // after, -(-(number + 1) * before // after)
    inside = ((at >= start) & (at < end)).double()
    return inside / inside.sum(1, keepdim=True)
