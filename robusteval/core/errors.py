"""The errors that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave cannot be used: one line, "expected X, got Y", exit code 2."""


class UnsupportedError(UserError):
    """One method cannot run on this model or data; the rest of the audit goes on without it."""


class RefutedError(Exception):
    """A witness lies inside a proven radius: the proof or the judge is wrong, and the audit stops; exit code 1."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to a mistyped one, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
