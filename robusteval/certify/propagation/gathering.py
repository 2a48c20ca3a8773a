"""Entries that move: permutations, slices, padding, repetition. Each entry of the output is one of the input, or a
constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.certify.propagation.ops import Affine
from robusteval.certify.propagation.places import Box, Shape, plane_of, shape

Movement = Callable[[Tensor], Tensor]
"""Values (N, ...) -> values (N, ...), of which every entry is one of its own image's or a constant."""


@dataclass(frozen=True, eq=False)
class Gather(Affine):
    """y = x[index], and `constant` where the index is -1.

    before: the shape of x; index (C', H', W') counts its entries in order; constant (C', H', W'), or None for zeros.
    """

    before: Shape
    index: Tensor
    constant: Tensor | None

    @property
    def after(self) -> Shape:
        return shape(self.index)

    @property
    def fan_out(self) -> int:
        """How often the entry that is used most often is used."""
        used = self.index[self.index >= 0]
        return int(used.bincount().max()) if len(used) else 1

    @property
    def bias(self) -> Tensor | None:
        return self.constant

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (self._seen(box.of(self.index)),)

    def apply(self, *x: Tensor) -> Tensor:
        moved: Tensor = self._rows(x[0].flatten(1)).unflatten(1, self.index.shape)
        return moved

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        index = box.of(self.index)
        seen = self._seen(index)
        channels, height, width = self.before
        row, column = index // width % height - seen.top, index % width - seen.left
        place = (index // (height * width) * seen.height + row) * seen.width + column
        used = (index >= 0).flatten()
        out = a.new_zeros(len(a), channels * seen.height * seen.width)
        out.index_add_(1, place.flatten()[used], a.flatten(1)[:, used])
        return ((out.view(len(a), channels, seen.height, seen.width), seen),)

    def _rows(self, x: Tensor) -> Tensor:
        index = self.index.flatten()
        entries: Tensor = torch.where(index >= 0, x[:, index.clamp_min(0)], 0.0)
        return entries

    def _seen(self, index: Tensor) -> Box:
        """The smallest box that holds the entries of an index; empty where it has none."""
        used = index[index >= 0]
        if not len(used):
            return Box(0, 0, 0, 0)
        rows, columns = used // self.before[2] % self.before[1], used % self.before[2]
        (top, bottom), (left, right) = (torch.stack(v.aminmax()).tolist() for v in (rows, columns))
        return Box(top, left, bottom - top + 1, right - left + 1)


def gathered(move: Movement, before: torch.Size, dtype: torch.dtype) -> Gather | None:
    """What a step does that only moves entries, found by moving numbers that count them; None where it does more.

    before: the shape of one image's value, without the batch; dtype: the type that its constants are rounded to.
    """
    n = math.prod(before)
    ids = torch.arange(1.0, 2 * n + 1, dtype=torch.float64).view(2, *before)
    forth, back = move(ids), move(-ids)
    if not 2 <= forth.dim() <= 4 or forth.shape[0] != 2:
        return None
    after = plane_of(forth.shape[1:])
    own = (forth[0] != 0) & (forth[0] == -back[0])
    apart = torch.where(own, forth[0] + n, forth[0])
    fixed = torch.where(own, 0.0, forth[0])
    same = torch.equal(forth[1], apart) and torch.equal(torch.where(own, 0.0, back[0]), fixed)
    index = torch.where(own, forth[0] - 1, -1.0).long()
    if not same or int(index.max()) >= n:
        return None
    if bool(fixed.any()):
        fixed = torch.where(own, 0.0, move(torch.zeros(2, *before, dtype=dtype))[0].double())
    return Gather(plane_of(before), index.view(after), fixed.view(after) if bool(fixed.any()) else None)


def keeps_order(op: Gather) -> bool:
    """Whether all entries stay in their order, so that it is a reshape."""
    index = op.index.flatten()
    return len(index) == math.prod(op.before) and torch.equal(index, torch.arange(len(index), device=index.device))
