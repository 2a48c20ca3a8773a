"""What computes with the weights, as text: the code and the plain configuration of a network, place by place.

A place is how a thing is reached from the network (`network.act`, `network.act cell scale`, `network!forward`), its
text is the same in every process, on every machine and for every hash seed: no addresses, no absolute paths, no device
or floating-point type, no memory layout.

Of a function it is the source without comments, docstrings and layout, or the bytecode (source.py), its defaults, what
it closes over, and the globals that it names. Of a class it is what its body and those of its bases define. Libraries
count by name: torch, the standard library, and what is installed, but for classes of modules and what these name in
their own package. What Python finds by other ways (getattr with a computed name, exec, files) is not seen.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robusteval.core.user_code import USER_MODULE
from robusteval.models.source import bytecode, normalised, source_text

_PLAIN = (bool, int, float, complex, bytes, type(None), type(Ellipsis), slice, range)
_NO_CODE = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__", "__annotate__"),
    *("__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__parameters__"),
    *("__abstractmethods__", "_abc_impl", "__orig_bases__", "__slots__"),
}
"""What a class holds besides what its body says it does."""
_WRAPPERS: dict[type, str] = {
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    functools.cached_property: "func",
    functools._lru_cache_wrapper: "__wrapped__",
}
"""Where what a class defines keeps its function."""
_INSTALLED = {"site-packages", "dist-packages"}


class CodeFacts:
    """Collects `found`, text by place; a thing that is reached again counts by the place where it was met first."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._met: dict[int, tuple[str, Any]] = {}

    def add(self, place: str, thing: Any, top: str = "") -> None:
        """Describe a thing at a place; `top` is the package of what names it, whose own code is read too."""
        self.found[place] = self.text(place, thing, top)

    def text(self, place: str, thing: Any, top: str = "") -> str:
        """What stands for a thing at a place; what it rests on is added at places of their own."""
        if isinstance(thing, enum.Enum):
            return f"{type(thing).__qualname__}.{thing.name}"
        if isinstance(thing, str):
            return "a path" if os.path.isabs(thing) else repr(thing)
        if isinstance(thing, _PLAIN):
            return repr(thing)
        if isinstance(thing, PurePath | torch.dtype | torch.device | torch.memory_format | torch.layout):
            return type(thing).__name__
        if isinstance(thing, Tensor):
            return numbers(thing)
        if isinstance(thing, np.ndarray | np.generic):
            return f"{np.shape(thing)} {_sha(np.ascontiguousarray(thing).tobytes())}" if thing.dtype != object else "-"
        if isinstance(thing, ModuleType):
            return f"module {_package(thing.__name__)}"
        if isinstance(thing, tuple):
            return f"({', '.join(self.text(f'{place}[{i}]', v, top) for i, v in enumerate(thing))})"
        if isinstance(
            thing, types.BuiltinFunctionType | np.ufunc | torch._ops.OpOverload | torch._ops.OpOverloadPacket
        ):
            return f"{type(thing).__name__} {thing.__name__}"
        if isinstance(thing, type | FunctionType) and not _own(thing.__module__ or "", top):
            return f"{_package(thing.__module__ or '')}.{thing.__qualname__}"
        if id(thing) in self._met:
            return f"as at {self._met[id(thing)][0]}"
        # Kept, so that its id is nobody else's.
        self._met[id(thing)] = (place, thing)
        try:
            return self.first_text(place, thing, top)
        except Exception:  # what a user's object does when it is looked at
            return f"unreadable {type(thing).__qualname__}"

    def first_text(self, place: str, thing: Any, top: str) -> str:
        """The same of a thing that may be met again: one with an identity."""
        if isinstance(thing, Mapping):
            items = (
                f"{self.text(f'{place} key {i}', k, top)}: {self.text(f'{place}[{i}]', v, top)}"
                for i, (k, v) in enumerate(thing.items())
            )
            return f"{{{', '.join(items)}}}"
        if isinstance(thing, Set):
            return f"{{{', '.join(sorted(self.text(f'{place} member', v, top) for v in thing))}}}"
        if isinstance(thing, Sequence):
            texts = (self.text(f"{place}[{i}]", v, top) for i, v in enumerate(thing))
            return f"{type(thing).__name__}({', '.join(texts)})"
        if isinstance(thing, functools.partial):
            return f"partial {self.text(f'{place} of', (thing.func, thing.args, thing.keywords), top)}"
        if isinstance(thing, MethodType):
            return f"method {self.text(f'{place} of', (thing.__func__, thing.__self__), top)}"
        for wrapper, inner in _WRAPPERS.items():
            if isinstance(thing, wrapper):
                return f"{wrapper.__name__} {self.text(f'{place} of', getattr(thing, inner), top)}"
        if isinstance(thing, FunctionType):
            return self._function(place, thing)
        if isinstance(thing, type):
            return self.class_text(place, thing)
        if _own(type(thing).__module__, top):
            for name, value in sorted(getattr(thing, "__dict__", {}).items()):
                self.add(f"{place}.{name}", value, top)
            return f"object {self.text(f'{place} type', type(thing), top)}"
        return f"{_package(type(thing).__module__)}.{type(thing).__qualname__}"

    def class_text(self, place: str, kind: type) -> str:
        """A class by its name and its bases; what they define is added at places of its own."""
        self._file(kind.__module__)
        top = _package(kind.__module__)
        bases = [self.text(f"{place}<{i}>", base, top) for i, base in enumerate(kind.__bases__)]
        for name, value in sorted(vars(kind).items()):
            if name not in _NO_CODE:
                self.add(f"{place}!{name}", value, top)
        return f"class {kind.__qualname__}({', '.join(bases)})"

    def _function(self, place: str, function: FunctionType) -> str:
        self._file(function.__module__)
        top, code = _package(function.__module__), function.__code__
        given = (function.__defaults__, function.__kwdefaults__)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                self.add(f"{place} cell {name}", _held(cell), top)
        names = sorted(set(_names(code)))
        for name in names:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            if not isinstance(value, ModuleType):
                self.add(f"{place} global {name}", value, top)
            elif _own(value.__name__, top):
                for inner in names:
                    if inner in vars(value):
                        self.add(f"{place} global {name}.{inner}", vars(value)[inner], top)
        return f"function {self.text(f'{place} given', given, top)} {_sha(source_text(function) or bytecode(code))}"

    def _file(self, module: str) -> None:
        """The whole of a file that the user named as FILE.py:FUNCTION."""
        if module.startswith(USER_MODULE) and (file := getattr(sys.modules.get(module), "__file__", None)):
            self.found[f"file {Path(file).name}"] = _sha(normalised(Path(file).read_text(encoding="utf-8")) or "")


def numbers(value: Tensor) -> str:
    """Shape and sha256 of the values of a tensor, whatever its device, its memory layout and, where all of them can be
    represented, its floating-point type."""
    data = value.detach().resolve_conj().resolve_neg()
    if data.is_quantized or data.layout != torch.strided:
        data = data.dequantize() if data.is_quantized else data.to_dense()
    data = data.cpu().to(torch.float64 if data.is_floating_point() else data.dtype).contiguous()
    return f"{tuple(data.shape)} {_sha(data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b'')}"


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _own(module: str, top: str) -> bool:
    """Whether a module's code is read: the user's, robusteval's, and that of the package `top`."""
    package = _package(module)
    if package in ("torch", "numpy", "") or package in sys.stdlib_module_names:
        return False
    if package in ("__main__", "robusteval", "user") or package == top:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return not _INSTALLED & set(Path(file).parts)


def _package(module: str) -> str:
    """The outermost name; of a user's file, whose module is named after its path, none."""
    return "user" if module.startswith(USER_MODULE) else module.partition(".")[0]


def _held(cell: types.CellType) -> Any:
    """What a function closes over; None where it is not there yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _sha(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
