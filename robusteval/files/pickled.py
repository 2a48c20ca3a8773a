"""A pickle read as data: its operations, one by one, build plain containers, numbers and descriptions of tensors.

Nothing is imported or called, so that nothing can execute. A reader's `Rebuild` describes calls that it wants; other
objects become `Inert`, and where a function would have to run, `CallsError` names it. Of a dict only what has a name is
kept (a str, or bytes, as Python 2 wrote text), and no other key is ever hashed. All protocols of pickle are read.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from robusteval.core.foreign import one_line
from robusteval.files.constructors import CONTAINERS, is_harmless

OPERATIONS = 3_000_000
"""Of a pickle. A tensor takes about 36: this is 20,000 weights with three statistics of an optimizer each."""
Rebuild = Callable[["Name", tuple[Any, ...]], Any]
"""What a call describes, of a tensor or an array for example; None for a call that the reader does not want."""


class CallsError(ValueError):
    """A pickle that would have to run the function that is named."""


class TooManyError(ValueError):
    """A pickle of more than OPERATIONS."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names."""

    module: str
    short: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.short}"

    def __str__(self) -> str:
        return one_line(self.full, 80)


class Inert(dict[str, Any]):
    """An object of a class that was neither imported nor made; it keeps only what is set in it by name."""

    __slots__ = ("kind",)

    def __init__(self, kind: Name | None) -> None:
        super().__init__()
        self.kind = kind


class Described:
    """What a call describes rather than makes, and the state that the pickle gives it afterwards."""

    state: Any = None


def read_pickle(file: BinaryIO, rebuild: Rebuild, persistent: Callable[[Any], Any], most: int) -> Any:
    """What the pickle at the place of the file holds; the file is left behind it. Raises CallsError, TooManyError, and
    other errors of all kinds for what is no pickle."""
    machine = _Machine(rebuild, persistent, most)
    for done, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if done + machine.copied > most:
            raise TooManyError
        name = operation.name
        if name in _VALUES:
            machine.stack.append(argument)
        elif name == "STOP":
            return machine.stack.pop()
        else:
            _OPERATIONS[name](machine, argument)
    raise EOFError


class _Machine:
    """The stack of a pickle; `marked` holds the stacks below each mark."""

    def __init__(self, rebuild: Rebuild, persistent: Callable[[Any], Any], most: int) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.rebuild, self.persistent, self.most = rebuild, persistent, most
        self.copied = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def replace_marked(self, value: Any) -> None:
        self.since_mark()
        self.push(value)

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def last(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError
        del self.stack[-count:]
        return items

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise TypeError

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is str:
                target[key] = value
            elif type(key) is bytes:
                target.setdefault(key.decode("latin-1"), value)

    def new_dict(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    def global_by_name(self, text: str) -> None:
        module, _, short = text.partition(" ")
        self.push(Name(module, short))

    def global_of_stack(self, _: Any) -> None:
        module, short = self.last(2)
        if type(module) is not str or type(short) is not str:
            raise TypeError
        self.push(Name(module, short))

    def new(self, count: int) -> None:
        """An object whose class makes it without being called: by its class and arguments."""
        kind = self.last(count)[0]
        if not isinstance(kind, Name):
            raise TypeError
        self.push({} if kind.full in CONTAINERS else Inert(kind))

    def call(self, kind: Any, arguments: Any) -> None:
        """What the call of a name would give, where it is data."""
        if not isinstance(kind, Name) or not isinstance(arguments, tuple):
            raise TypeError
        if kind.full in CONTAINERS:
            self.new_dict(self.pairs(arguments[0]) if arguments and not isinstance(arguments[0], Name) else [])
        elif (made := self.rebuild(kind, arguments)) is not None:
            self.push(made)
        elif is_harmless(kind.module, kind.short):
            self.push(Inert(kind))
        else:
            raise CallsError(str(kind))

    def pairs(self, content: Any) -> list[Any]:
        """Keys and values, by turns, of a list of pairs or a dict; copying is counted, since a list may be shared."""
        if isinstance(content, dict):
            content = list(content.items())
        if not isinstance(content, list):
            return []
        self.copied += len(content)
        if self.copied > self.most:
            raise TooManyError
        return [value for pair in content if isinstance(pair, list | tuple) and len(pair) == 2 for value in pair]

    def reduce(self, _: Any) -> None:
        kind, arguments = self.last(2)
        self.call(kind, arguments)

    def instance(self, text: str) -> None:
        arguments = tuple(self.since_mark())
        self.global_by_name(text)
        self.call(self.stack.pop(), arguments)

    def object(self, _: Any) -> None:
        kind, *arguments = self.since_mark()
        self.call(kind, tuple(arguments))

    def build(self, _: Any) -> None:
        (state,) = self.last(1)
        if self.stack and isinstance(self.stack[-1], Described):
            self.stack[-1].state = state

    def refuse(self, _: Any) -> None:
        raise CallsError("an extension of pickle")


_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
"""Operations that push their own argument."""
_OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(Inert(None)),
    "FROZENSET": lambda m, _: m.replace_marked(Inert(None)),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.push(m.last(1)),
    "TUPLE2": lambda m, _: m.push(m.last(2)),
    "TUPLE3": lambda m, _: m.push(m.last(3)),
    "DICT": lambda m, _: m.new_dict(m.since_mark()),
    "APPEND": lambda m, _: m.extend(list(m.last(1))),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: m.extend(m.since_mark())),
    "SETITEM": lambda m, _: m.set_items(list(m.last(2))),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GLOBAL": _Machine.global_by_name,
    "STACK_GLOBAL": _Machine.global_of_stack,
    "NEWOBJ": lambda m, _: m.new(2),
    "NEWOBJ_EX": lambda m, _: m.new(3),
    "REDUCE": _Machine.reduce,
    "INST": _Machine.instance,
    "OBJ": _Machine.object,
    "BUILD": _Machine.build,
    "BINPERSID": lambda m, _: m.push(m.persistent(m.last(1)[0])),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _, __: None),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"), _Machine.refuse),
}
