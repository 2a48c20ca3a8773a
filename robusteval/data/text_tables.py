"""Tables in text files: a .csv or .tsv, separated by commas, semicolons or tabs, in UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line

_BYTES = 128 * 2**20
"""Of a table: two million rows of 64."""
_ROWS = 2_000_000
_LINE = 2**20


def text_table(path: Path, what: str) -> tuple[list[str], list[list[str]]]:
    """The first row and the others, each as long as the first, at least two cells; empty lines are none. `what` says
    what stands in such a table, in its rows and in two of its columns. Raises UserError."""
    content = limits.read_limited(path, _BYTES, f"a table of {what}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"expected a table in UTF-8 in {path}, got other bytes; save it as 'CSV UTF-8'") from error
    try:
        first = text.partition("\n")[0]
        mark = next((m for m in ("\t", ",", ";") if m in first), ",")
        found = list(_rows(text, mark, path))
    except (csv.Error, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"expected a table of {what} in {path}, got: {first_line(error)}") from error
    if not found or len(found[0]) < 2:
        raise UserError(
            f"expected a table of {what} in {path}, a column of each, got "
            f"{'a single column' if found else 'no rows'}; separate them by commas"
        )
    return found[0], found[1:]


def _rows(text: str, mark: str, path: Path) -> Iterator[list[str]]:
    width = None
    for i, row in enumerate(csv.reader(_lines(text, path), delimiter=mark, strict=True)):
        limits.check_limit_of(path, i, _ROWS, "rows")
        if row:
            width = width or len(row)
            if len(row) != width:
                raise UserError(f"expected {width} columns in every row of {path}, got {len(row)} in row {i + 1}")
            yield [cell.strip() for cell in row]


def _lines(text: str, path: Path) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        limits.check_limit_of(path, len(line), _LINE, "characters in a line")
        yield line
