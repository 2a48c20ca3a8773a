"""How many numbers an intermediate result may hold at a time: each computation has its usual, a caller may set less."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MOST: ContextVar[float] = ContextVar("most", default=math.inf)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Within, no computation that asks here holds more than so many numbers, or one row where a row has more. Results
    differ by rounding only."""
    token = _MOST.set(min(numbers, _MOST.get()))
    try:
        yield
    finally:
        _MOST.reset(token)


def allowed(usual: int) -> float:
    """How many numbers may be held: the usual, or what the caller sets."""
    return min(usual, _MOST.get())


def rows(usual: int, each: int) -> int:
    """How many rows of `each` numbers may be held at a time, at least one."""
    return max(1, int(allowed(usual) // each))


_SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is that of memory which ran out, or was raised from one: torch's allocators have no error of
    their own in common."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS):
            return True
        error = error.__cause__
    return False
