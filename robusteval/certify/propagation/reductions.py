"""Means, sums and maxima over axes, and values beside each other along any axis, as layers that bounds pass through."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from robusteval.certify.propagation.along_axes import AlongAxes
from robusteval.certify.propagation.gathering import gathered
from robusteval.certify.propagation.layers import unsupported
from robusteval.certify.propagation.ops import Concatenate, Max, Op, Reshape
from robusteval.certify.propagation.pieces import Piece, Pieces
from robusteval.certify.propagation.places import Shape, Windows, plane_of

_OF = torch.ops.aten
REDUCTIONS: dict[object, str] = {
    **dict.fromkeys((torch.mean, "mean", _OF.mean.dim), "mean"),
    **dict.fromkeys((torch.sum, "sum", _OF.sum.dim_IntList), "sum"),
    **dict.fromkeys((torch.amax, "amax", _OF.amax.default), "amax"),
}


def reduction(node: fx.Node, before: Shape, after: Shape) -> Pieces:
    """A mean, a sum or a maximum over axes of each image's value. Raises UnsupportedError."""
    given: dict[str, Any] = dict(zip(("input", "dim", "keepdim", "dtype"), node.args, strict=False)) | node.kwargs
    taken: Any = given.get("input", given.get("self"))
    dim, rank = given.get("dim"), len(taken.meta["tensor_meta"].shape)
    dims: set[int] = {0} if dim is None else {d % rank for d in ([dim] if isinstance(dim, int) else dim)}
    if 0 in dims or given.get("dtype") is not None:
        raise unsupported(node, "a sum, mean or maximum over the images or in another type")
    kind, axes = REDUCTIONS[node.target], {d - 1 for d in dims}
    kept = plane_of([1 if k in axes else before[k] for k in range(3)])
    op = _highest(before, axes) if kind == "amax" else _summed(before, axes, mean=kind == "mean")
    if op is None:
        raise unsupported(node, "a maximum over channels")
    pieces: Pieces = (Piece(op, kept, shown=True),)
    return pieces if kept == after else (*pieces, Piece(Reshape(kept, after), after))


def _summed(before: Shape, axes: set[int], *, mean: bool) -> Op:
    def row(k: int) -> torch.Tensor | None:
        size = before[k]
        return torch.full((1, size), 1 / size if mean else 1.0, dtype=torch.float64) if k in axes else None

    return AlongAxes(*(row(k) for k in range(3)))


def _highest(before: Shape, axes: set[int]) -> Op | None:
    """One window over the rows or columns."""
    if 0 in axes:
        return None
    kernel = before[1] if 1 in axes else 1, before[2] if 2 in axes else 1
    return Max(Windows(kernel, kernel, (0, 0), (1, 1), before[1:]), floor=False)


def side_by_side(node: fx.Node, sizes: list[torch.Size], dim: Any) -> Pieces:
    """Values of these sizes, an image's, side by side along a dimension of the program: flat, and then moved."""
    counts = [math.prod(size) for size in sizes]
    flat = [(count, 1, 1) for count in counts]
    total = sum(counts)
    pieces: Pieces = tuple(
        Piece(Reshape(plane_of(s), f), f, (k,)) for k, (s, f) in enumerate(zip(sizes, flat, strict=True))
    )
    takes = tuple(len(sizes) + k for k in range(len(sizes)))
    pieces += (Piece(Concatenate(tuple(counts)), (total, 1, 1), takes),)

    def laid(x: torch.Tensor) -> torch.Tensor:
        parts = x.split(counts, dim=1)
        return torch.cat([part.view(-1, *size) for part, size in zip(parts, sizes, strict=True)], dim)

    op = gathered(laid, torch.Size((total,)), torch.float64)
    if op is None:
        raise unsupported(node, f"a concatenation along dimension {dim}")
    return (*pieces, Piece(op, op.after, shown=True))
