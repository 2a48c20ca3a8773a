"""Writing below a folder, and nowhere else; and CSV for people. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from robusteval.core.errors import UserError
from robusteval.core.foreign import dead
from robusteval.core.plain_names import is_below
from robusteval.results.atomic import atomically

_AT_ONCE = 1 << 16
"""Rows of a table as text."""


def write_below(folder: Path, name: str, content: str | bytes | Callable[[Path], object]) -> Path:
    """Write `folder`/`name`, whole or not at all: text, bytes, or what a function writes into the path that it is
    given. A file that is there is replaced, a link is not followed. Raises UserError where the name leads out of the
    folder, by itself or by a link of the folders between, or where nothing can be written."""
    path = folder / name
    between = [part for part in path.parents if part != folder and part.is_relative_to(folder)]
    if not is_below(name) or any(part.is_symlink() for part in between):
        raise UserError(f"expected to write below {folder}, got {name!r}, which leads elsewhere")
    if isinstance(content, str):
        text = content.encode("utf-8", "replace")
        atomically(path, lambda temporary: temporary.write_bytes(text))
    elif isinstance(content, bytes):
        atomically(path, lambda temporary: temporary.write_bytes(content))
    else:
        atomically(path, content)
    return path


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """`as_csv` into a file, of which some rows at a time are in memory."""
    with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        for start in range(0, max(len(frame), 1), _AT_ONCE):
            file.write(as_csv(frame.iloc[start : start + _AT_ONCE], header=not start))


def as_csv(frame: pd.DataFrame, header: bool = True) -> str:
    """A table as CSV that a spreadsheet opens without running anything: see `dead`."""
    known = cache(dead)  # a name of a method stands in many rows

    def cell(value: object) -> object:
        return known(value) if isinstance(value, str) else value

    texts: dict[str, Any] = {str(name): frame[name].map(cell) for name in frame if not _is_numeric(frame[name])}
    return frame.assign(**texts).rename(columns=cell).to_csv(index=False, header=header, lineterminator="\n")


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)
