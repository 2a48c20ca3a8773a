"""What a protocol asks of an image, where that is not its class: to be among the top k, or to avoid one class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robusteval.core.errors import UserError


def question(data: Mapping[str, Any], where: str) -> tuple[int, int | str | None]:
    """`top` and `target`, the number or the name of a class, of a protocol named `where`. Raises UserError for what
    these cannot be."""
    top, target = data.get("top", 1), data.get("target")
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise UserError(f"expected top as a whole number of at least 1 in {where}, got {top!r}")
    if target is None:
        return top, None
    whole = isinstance(target, int) and not isinstance(target, bool) and target >= 0
    if not whole and not (isinstance(target, str) and target):
        raise UserError(f"expected target as the number of a class, from 0, or its name in {where}, got {target!r}")
    if top > 1:
        raise UserError(f"expected top or target in {where}, got both")
    return top, target
