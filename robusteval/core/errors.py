"""The errors that a user is meant to read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from robusteval.core.foreign import one_line

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST = 80
"""Of the text of a value that is quoted in an error; of a longer one the beginning."""


class UserError(ValueError):
    """Something the user gave cannot be used: one line, "expected X, got Y", exit code 2. Names of files and arrays and
    messages of libraries stand in it, so that it is made readable text here, for whoever shows it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class UnsupportedError(UserError):
    """One method cannot run on this model or data; the rest of the audit goes on without it."""


class RefutedError(Exception):
    """A witness lies inside a proven radius: the proof or the judge is wrong, and the audit stops; one line, exit code
    1. Not a UserError: a stage that raises it is not unavailable."""


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to a mistyped one, else all of them."""
    known = sorted(known)
    word = word[:LONGEST]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def explain(error: ValidationError, known: Iterable[str] = (), called: Callable[[str], str] = "'{}'".format) -> str:
    """The first problem that pydantic found, as "expected X, got Y". `known` are the settings that there are, for a
    hint at a mistyped one; `called` writes a setting as the user knows it, such as "--learning-rate"."""
    problem = error.errors(include_url=False)[0]
    setting = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = list(known)
        return f"expected a known setting, got {called(setting)}" + (f" ({nearest(setting, known)})" if known else "")
    if problem["type"] == "missing":
        return f"expected {called(setting)}, got none"
    message = _expectation(problem["msg"])
    if setting:
        return f"{message}, got {_quoted(problem['input'])} for {called(setting)}"
    return f"{message}, got {_quoted(problem['input'])}" if problem["type"] == "model_type" else message


def _expectation(message: str) -> str:
    """What pydantic says of a value, without how it came to that."""
    text = message.removeprefix("Value error, ")
    if text.startswith("Input should be "):
        text = re.split(", (?:unable to parse|got) ", text)[0]
    text = re.sub(r"^Input should be (?=greater|less)", "expected a value ", text)
    return text.replace("Input should be ", "expected ", 1)


def _quoted(value: object) -> str:
    # Python spells no whole number of thousands of digits.
    text = "a huge number" if isinstance(value, int) and value.bit_length() > 4 * LONGEST else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
