"""Finding: what a verification says of one claim."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from robusteval.core.errors import UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.user_code import NotPermittedError


@dataclass(frozen=True)
class Finding:
    """`line` names the file, the row or the key of the manifest that it is about.

    "wrong": the claim does not hold. "checked": so many `values` were held against `line`, whether they hold or not.
    "unchecked": cannot be known, or was not looked at, for the reason in the line. "blocked": not looked at until the
    user does what the line says.
    """

    kind: Literal["wrong", "checked", "unchecked", "blocked"]
    line: str
    values: int = 0


def wrong(line: str) -> Finding:
    return Finding("wrong", line)


def held_against(line: str, values: int) -> Finding:
    return Finding("checked", line, values)


def unknown(line: str) -> Finding:
    return Finding("unchecked", line)


def contained(where: str, findings: Iterator[Finding]) -> Generator[Finding, None, Any]:
    """The findings of a check and what it returns; what stops the check is one more finding, and None is returned: a
    run that others made may hold anything, and what was found before is not lost. Memory that ran out, and a program
    that may not be run, say nothing of the run, and block it."""
    try:
        return (yield from cast("Generator[Finding, None, Any]", findings))
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        waits = is_out_of_memory(error) or isinstance(error, NotPermittedError)
        yield Finding("blocked" if waits else "wrong", f"{where}: cannot be checked: {said}")
        return None


def claim(key: str, stored: object, expected: object, of: str = "") -> Finding:
    """Of a key of the manifest that is not what it should be; of lists the first entry. `of` says whose value is
    expected."""
    if isinstance(stored, tuple) and isinstance(expected, tuple):
        if len(stored) != len(expected):
            return claim(key, f"{len(stored)} entries", str(len(expected)), of)
        key, stored, expected = next(
            (f"{key}.{i}", one, other)
            for i, (one, other) in enumerate(zip(stored, expected, strict=True))
            if one != other
        )
    return wrong(f"manifest.json, {key}: is {_short(stored)}, expected {_short(expected)}{of}")


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
