"""Pickles of plain containers, numbers, text and numpy arrays, read without unpickling them: what a file names is
never looked up or called, and everything else in it is an error."""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line

OPERATIONS = 2_000_000
"""Of a pickle, one or two an item: the training set of CIFAR-100 has 300,000."""
_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_STRINGS = {"BINSTRING", "SHORT_BINSTRING", "STRING"}
"""Of Python 2: bytes."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_OF_NUMPY = {"ndarray", "dtype", "_reconstruct", "_frombuffer"}
_NUMBERS = re.compile(r"[uif][1248]")
_MARK = object()


@dataclass
class _Named:
    """What a pickle calls by a name, which stays a name."""

    name: str


@dataclass
class _Kind:
    """A type of numbers, such as "u1", and their byte order."""

    code: str
    order: str = "|"


@dataclass
class _Array:
    found: Any = None


def read_plain(content: bytes, where: str) -> Any:
    """What the pickle holds: dicts by text, lists, tuples, numbers, text, bytes, and numpy arrays of numbers. Raises
    UserError that names the file."""
    try:
        return _taken(_Reader().run(content))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # bytes that are no pickle raise all kinds
        raise UserError(
            f"expected a pickle of plain containers and numpy arrays in {where}, got: {first_line(error)}"
        ) from error


class _Reader:
    """The stack and the memo of a pickle, of which only values come."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
            limits.check_limit_of("the pickle", count, OPERATIONS, "operations")
            if operation.name == "STOP":
                return self.stack.pop()
            self.do(operation.name, argument)
        raise ValueError("a pickle that is cut short")

    def do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _STRINGS:
            stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            name_of, module = stack.pop(), stack.pop()
            stack.append(_named(module, name_of))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_reduced(called, arguments))
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        elif name not in ("PROTO", "FRAME"):
            self.collect(name)

    def collect(self, name: str) -> None:
        """The operations on containers."""
        stack = self.stack
        if name == "APPEND":
            item = stack.pop()
            _a(list, stack[-1]).append(item)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _a(dict, stack[-1])[_text(key)] = value
        elif name in ("APPENDS", "SETITEMS", "TUPLE", "LIST", "DICT"):
            items = self.above_mark()
            pairs = zip(map(_text, items[::2]), items[1::2], strict=True) if name in ("SETITEMS", "DICT") else ()
            if name == "APPENDS":
                _a(list, stack[-1]).extend(items)
            elif name == "SETITEMS":
                _a(dict, stack[-1]).update(pairs)
            else:
                stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else dict(pairs))
        else:
            raise ValueError(f"the operation {name}, which plain data does not need")

    def above_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _a(kind: type, found: Any) -> Any:
    if type(found) is not kind:
        raise ValueError(f"items for what is no {kind.__name__}")
    return found


def _text(key: Any) -> str:
    """A key of a dict; bytes are text of Python 2."""
    if not isinstance(key, str | bytes):
        raise ValueError(f"a key that is no text but {type(key).__name__}")
    return key if isinstance(key, str) else key.decode("latin-1")


def _named(module: Any, name: Any) -> _Named:
    known = (module in _MODULES and name in _OF_NUMPY) or (module, name) == ("_codecs", "encode")
    if not known:
        raise ValueError(f"a call of {str(module)[:40]}.{str(name)[:40]}, which plain data does not need")
    return _Named(name)


def _reduced(called: Any, arguments: Any) -> Any:
    """What numpy's own functions would make, made of the arguments alone."""
    name = called.name if isinstance(called, _Named) else None
    given = _a(tuple, arguments)
    if name == "_reconstruct":
        return _Array()
    if name == "dtype":
        code = _text(given[0])
        if not _NUMBERS.fullmatch(code.lstrip("<>|=")):
            raise ValueError(f"an array of {code[:20]}, which are no numbers")
        return _Kind(code.lstrip("<>|="))
    if name == "encode" and given[1] in ("latin1", "latin-1"):
        return given[0].encode("latin-1")
    if name == "_frombuffer":
        data, kind, shape, order = given
        return _Array(_numbers(data, kind, shape, order != "C"))
    raise ValueError("a call, which plain data does not need")


def _build(found: Any, state: Any) -> None:
    """The state of a type of numbers or of an array."""
    parts = _a(tuple, state)
    if isinstance(found, _Kind):
        order = _text(parts[1])
        found.order = order if order in "<>" else "|"
    elif isinstance(found, _Array):
        _, shape, kind, columns_first, data = parts
        found.found = _numbers(data, kind, shape, columns_first)
    else:
        raise ValueError(f"a state for {type(found).__name__}")


def _numbers(data: Any, kind: Any, shape: Any, columns_first: Any) -> Any:
    if not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray):
        raise ValueError("an array of what are no numbers")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    found = np.frombuffer(data, np.dtype(f"{kind.order}{kind.code}"))
    return found.reshape(shape, order="F" if columns_first else "C")


def _taken(found: Any) -> Any:
    """An array out of its holder, also as the value of a dict."""
    if isinstance(found, dict):
        return {key: _taken(value) if isinstance(value, _Array) else value for key, value in found.items()}
    return found.found if isinstance(found, _Array) else found
