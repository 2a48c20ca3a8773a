"""Arrays of NumPy as a pickle describes them, and pickles of plain data: containers, numbers, text, bytes and arrays.

What NumPy's own functions would make is made of their arguments alone, where it is wanted; bytes that Python 2 wrote
come as text (Latin-1), as pickles of that time spell them.
"""

from __future__ import annotations

import io
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robusteval.core.errors import UserError, first_line
from robusteval.core.limits import check_limit_of, lifted
from robusteval.files.pickled import CallsError, Described, Name, Rebuild, TooManyError, read_pickle

PLAIN_OPERATIONS = 2_000_000
"""Of a pickle of plain data, one or two an item: the training set of CIFAR-100 has 300,000."""
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_NUMBERS = re.compile(r"[<>|=]?([uif][1248])")
_LATIN = ("latin1", "latin-1")


@dataclass(eq=False)
class PickledKind(Described):
    """A type of numbers by NumPy's code for it, such as "u1"; its state says their byte order."""

    code: Any

    @property
    def dtype(self) -> np.dtype[Any]:
        """Raises ValueError for what are no plain numbers."""
        known = _NUMBERS.fullmatch(self.code) if isinstance(self.code, str) else None
        if known is None:
            code = self.code[:20] if isinstance(self.code, str) else type(self.code).__name__
            raise ValueError(f"an array of {code}, which are no numbers")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        return np.dtype(f"{order if order in ('<', '>') else '|'}{known[1]}")


class PickledArray(Described):
    """An array that lies in a pickle; its state is (version, shape, kind, columns first, bytes)."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def numbers(self) -> NDArray[Any]:
        """Of the bytes of the file, not copied. Raises ValueError for what are no numbers, or are too few or many."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array that is not complete")
        _, shape, kind, columns_first, data = self.state
        raw = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(kind, PickledKind):
            raise ValueError("an array without a type")
        dtype = kind.dtype
        if not isinstance(raw, bytes | bytearray):
            raise ValueError("an array without bytes")
        if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in shape[:64]):
            raise ValueError("an array without a shape")
        if len(shape) > 64 or math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(f"{len(raw):,} bytes for an array of another size")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if columns_first else "C")


def plain_calls() -> Rebuild:
    """What calls of NumPy's functions for arrays, and of Python's for bytes, describe, in one pickle."""
    # Bytes that many calls make of one text are made once, or a small file would fill the memory.
    encoded: dict[int, tuple[str, bytes]] = {}

    def described(called: Name, arguments: tuple[Any, ...]) -> Any:
        if called.short == "_reconstruct" and called.module in _MULTIARRAY:
            return PickledArray()
        if called.short == "_frombuffer" and called.module in _NUMERIC:
            data, kind, shape, order = arguments
            return PickledArray(None, shape, kind, order != "C", data)
        if called.short == "scalar" and called.module in _MULTIARRAY and len(arguments) == 2:
            return _scalar(*arguments)
        if called.full == "numpy.dtype":
            return PickledKind(arguments[0])
        if called.full == "_codecs.encode" and len(arguments) == 2 and arguments[1] in _LATIN:
            return encoded.setdefault(id(arguments[0]), (arguments[0], arguments[0].encode("latin-1")))[1]
        return None

    return described


def _scalar(kind: Any, data: Any) -> int | float | None:
    """One number; None for what is none."""
    try:
        found: int | float = PickledArray(None, (), kind, False, data).numbers().item()
    except ValueError:
        return None
    return found


def read_plain(content: bytes, where: str) -> Any:
    """What the pickle holds: dicts by text, lists, tuples, numbers, text, bytes, and descriptions of arrays. Raises
    UserError that names the file."""
    most = sys.maxsize if lifted() else PLAIN_OPERATIONS
    wanted = f"a pickle of plain containers and numpy arrays in {where}"
    try:
        return read_pickle(io.BytesIO(content), plain_calls(), _no_storage, most)
    except CallsError as error:
        raise UserError(f"expected {wanted}, got a call of {error}, which plain data does not need") from error
    except TooManyError:
        check_limit_of(where, most + 1, most, "operations in its pickle")
        raise
    except MemoryError:
        raise
    except Exception as error:  # bytes that are no pickle raise all kinds
        raise UserError(f"expected {wanted}, got: {first_line(error)}") from error


def _no_storage(_: Any) -> Any:
    raise ValueError("a storage outside of the pickle")
