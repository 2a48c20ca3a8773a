"""Dropping decided images from everything that belongs to them, at once."""

from __future__ import annotations

from typing import Any, TypeVarTuple

from torch import Tensor

Things = TypeVarTuple("Things")


def keep(rows: Tensor, *things: *Things) -> tuple[*Things]:
    """The same things for some images only (`rows`: indices or a mask): tensors (N, ...) by indexing, all others by
    their own `select`; None stays None."""

    def some(thing: Any) -> Any:
        if thing is None:
            return None
        return thing[rows] if isinstance(thing, Tensor) else thing.select(rows)

    return tuple(map(some, things))
