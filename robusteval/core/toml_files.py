"""TOML files: what they may hold is bounded before anything is made of it."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from robusteval.core.errors import UserError
from robusteval.core.limits import read_limited

LARGEST_FILE = 2**18
"""Bytes."""
DOTS = 200
"""In a line: a key of many parts takes the square of their number to read."""
DEEPEST = 8
"""Of tables and lists in one another."""
MOST_ITEMS = 1000
"""In one list or table."""
LONGEST_TEXT = 10_000
LONGEST_KEY = 100
MOST_COUNT = 10**8
"""The largest whole number that a file of settings may ask for."""


def read_toml(path: Path, what: str = "a TOML file") -> dict[str, Any]:
    """The tables of a TOML file; `what` names what was expected where there is none. Raises UserError in one line: for
    a file that is not there, no regular file, no TOML, or larger, deeper or with larger numbers than the limits of this
    file."""
    if not os.path.exists(path):
        raise UserError(f"expected {what}, got {path}, which does not exist")
    try:
        text = read_limited(path, LARGEST_FILE, "a TOML file").decode()
    except UnicodeDecodeError as error:
        raise UserError(f"expected a TOML file in {path}, got: {error.reason} at byte {error.start}") from None
    if max((line.count(".") for line in text.splitlines()), default=0) > DOTS:
        raise UserError(f"expected at most {DOTS} dots in a line of {path}, got more")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise UserError(f"expected a TOML file in {path}, got tables nested too deep") from None
    except ValueError as error:
        raise UserError(f"expected a TOML file in {path}, got: {error}") from error
    _check(data, path, 0)
    return data


def _check(value: Any, path: Path, depth: int) -> None:
    """Raise UserError for what is beyond the limits."""
    if depth > DEEPEST:
        raise UserError(f"expected at most {DEEPEST} tables and lists in one another in {path}, got more")
    match value:
        case bool():
            pass
        case int():
            if abs(value) > MOST_COUNT:
                raise UserError(f"expected whole numbers of at most {MOST_COUNT:,} in {path}, got a larger one")
        case str():
            # Spelled as text it is taken for a number all the same.
            digits = re.fullmatch(r"\s*[+-]?\d{9,}\s*", value, re.ASCII)
            if len(value) > LONGEST_TEXT or (digits and abs(int(value)) > MOST_COUNT):
                raise UserError(f"expected shorter texts in {path}, got {len(value):,} characters: {value[:40]!r}")
        case list() | dict():
            if len(value) > MOST_ITEMS:
                raise UserError(
                    f"expected lists and tables of at most {MOST_ITEMS:,} items in {path}, got {len(value):,}"
                )
            for key in value if isinstance(value, dict) else ():
                if len(key) > LONGEST_KEY:
                    raise UserError(f"expected keys of at most {LONGEST_KEY} characters in {path}, got {key[:40]!r}")
            for item in value.values() if isinstance(value, dict) else value:
                _check(item, path, depth + 1)
