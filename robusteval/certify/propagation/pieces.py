"""What a layer of a network is made of: one layer that bounds pass through, or a few of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robusteval.certify.propagation.ops import Op
from robusteval.certify.propagation.places import Shape


@dataclass(frozen=True)
class Piece:
    """One of the layers that a layer of a network is made of, in order.

    takes: what it takes, counted through the values that the layer takes (from 0 on) and the pieces (after them); None
    for the one before it. shown: whether its value is the one that the network shows by the name of the layer. A piece
    that is not shown moves numbers or is a step of a definition: the network computes no such value with rounding.
    """

    op: Op
    shape: Shape
    takes: tuple[int, ...] | None = None
    shown: bool = False


Pieces = tuple[Piece, ...]


def single(op: Op | None, shape: Shape) -> Pieces | None:
    """A layer that is one; None stays None."""
    return None if op is None else (Piece(op, shape, shown=True),)


def on_plane(value: Any, rank: int, rest: int) -> tuple[int, int]:
    """Settings of rows and columns: a number for both or one for each; `rest` for the columns of values of one axis."""
    values = [value] * rank if isinstance(value, int) else list(value)
    return (int(values[0]), rest) if rank == 1 else (int(values[0]), int(values[-1]))
