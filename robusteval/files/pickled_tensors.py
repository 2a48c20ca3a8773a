"""Tensors as a pickle of torch describes them: shape, strides and place in a storage, read only where they are wanted.

So an optimizer's statistics beside the weights are never read, and a shape that no network asks for costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.files.pickled import Name

Bytes = Callable[[str], bytearray]
"""The bytes of the storage of this name in a file. Raises DamagedError."""
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_STORED = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
}


class DamagedError(ValueError):
    """A file that lacks some of the numbers that it promises; the text says which."""


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: in the storage `key` of the file, from number `first`."""

    read: Bytes
    key: str
    dtype: torch.dtype
    first: int = 0


@dataclass(frozen=True)
class PickledTensor:
    """A tensor that lies in a file. odd: why its numbers are no plain weights ("quantised"), else empty; an odd one
    may be of unknown shape, None."""

    shape: tuple[int, ...] | None
    dtype: str
    odd: str = ""
    strides: tuple[int, ...] = ()
    first: int = 0
    storage: Storage | None = None

    def numbers(self) -> Tensor:
        """Raises DamagedError where they do not lie in the storage."""
        assert self.storage is not None
        assert self.shape is not None
        dtype = _DTYPES[self.dtype]
        raw = self.storage.read(self.storage.key)
        first = self.storage.first + self.first
        if 0 in self.shape:
            return torch.zeros(self.shape, dtype=dtype)
        last = first + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if (last + 1) * dtype.itemsize > len(raw):
            raise DamagedError(f"storage {self.storage.key} has {len(raw):,} bytes of {(last + 1) * dtype.itemsize:,}")
        whole = torch.frombuffer(raw, dtype=dtype, count=len(raw) // dtype.itemsize)
        return whole.as_strided(self.shape, self.strides, first)


Weight = Tensor | PickledTensor


def tensor_of(path: Path, key: str, weight: Weight) -> Tensor:
    """The numbers of the weights `key` of a file. Raises UserError where they are not plain or damaged."""
    if isinstance(weight, Tensor):
        return weight
    if weight.odd:
        found = weight.dtype.removeprefix("torch.")
        raise UserError(f"expected plain weights for '{key}' in {path}, got {found} that is {weight.odd}")
    try:
        return weight.numbers()
    except DamagedError as error:
        raise UserError(
            f"expected the numbers of '{key}' in {path}, got a file that is damaged or cut short ({error}); download "
            "it again"
        ) from error
    except (RuntimeError, ValueError) as error:  # a type or strides that torch does not take
        raise UserError(f"expected plain weights for '{key}' in {path}, got a tensor that torch cannot make") from error


def storage_of(kind: Any, key: Any, read: Bytes, view: Any = None) -> Storage:
    """The storage that a pickle names. Raises TypeError or KeyError."""
    if not isinstance(kind, Name) or kind.module.split(".")[0] != "torch" or type(key) is not str:
        raise TypeError
    first = 0 if view is None else _whole(view[1])
    return Storage(read, key, _STORED[kind.short], first)


def rebuilt(called: Name, arguments: tuple[Any, ...]) -> Any:
    """The tensor that a call describes; None for a call that is none of torch's for tensors. Raises errors of all
    kinds for arguments that torch does not write."""
    if called.full in _WRAPPING:
        inner, given = arguments[0], arguments[2]
        if not isinstance(inner, Name) or inner.full in _WRAPPING or not isinstance(given, tuple):
            raise TypeError
        return rebuilt(inner, given)
    if called.full in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    if called.full == "torch.Size":
        return _sizes(arguments[0])
    if called.full in _PLAIN:
        return _plain(*arguments)
    kind = _ODD.get(called.full)
    return None if kind is None else kind(arguments)


def _plain(
    storage: Any, first: Any, shape: Any, strides: Any, _: Any = None, __: Any = None, *more: Any
) -> PickledTensor:
    """more: for v3 the type, for all the bits of a view (negative, conjugate)."""
    if not isinstance(storage, Storage):
        raise TypeError
    named = more[0].full if more and isinstance(more[0], Name) else str(storage.dtype)
    odd = "a view of changed sign" if any(isinstance(bits, dict) and bits for bits in more) else ""
    if named.startswith(("torch.q", "torch.bits")):
        odd = "quantised"
    sizes, steps = _sizes(shape), _sizes(strides)
    if len(sizes) != len(steps):
        raise TypeError
    return PickledTensor(sizes, named, odd, steps, _whole(first), storage)


def _sizes(given: Any) -> tuple[int, ...]:
    if not isinstance(given, tuple | list) or len(given) > 64:
        raise TypeError
    return tuple(_whole(number) for number in given)


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**62:
        raise TypeError
    return number


def _shape_or_none(given: Any) -> tuple[int, ...] | None:
    try:
        return _sizes(given)
    except TypeError:
        return None


def _sparse(arguments: tuple[Any, ...]) -> PickledTensor:
    data = arguments[1]
    shape = next((size for part in data if (size := _shape_or_none(part)) is not None), None)
    values = [part.dtype for part in data if isinstance(part, PickledTensor)]
    return PickledTensor(shape, values[-1] if values else "numbers", "sparse")


def _typed(place: int) -> Callable[[tuple[Any, ...]], str]:
    return lambda arguments: arguments[place].full if isinstance(arguments[place], Name) else "numbers"


def _quantised(arguments: tuple[Any, ...]) -> PickledTensor:
    storage = arguments[0]
    dtype = str(storage.dtype) if isinstance(storage, Storage) else "numbers"
    return PickledTensor(_shape_or_none(arguments[2]), dtype, "quantised")


_PLAIN = frozenset(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_WRAPPING = frozenset(("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"))
_ODD: dict[str, Callable[[tuple[Any, ...]], PickledTensor]] = {
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": lambda _: PickledTensor(None, "numbers", "nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda a: PickledTensor(
        _shape_or_none(a[1]), _typed(0)(a), "without data"
    ),
    "torch._utils._rebuild_wrapper_subclass": lambda a: PickledTensor(
        _shape_or_none(a[2]), _typed(1)(a), "a tensor of another class"
    ),
    "torch.nested._internal.nested_tensor._rebuild_njt": lambda _: PickledTensor(None, "numbers", "nested"),
    **{
        f"torch._utils._rebuild_{kind}": lambda _: PickledTensor(None, "numbers", "of another device")
        for kind in ("xla_tensor", "device_tensor_from_numpy", "device_tensor_from_cpu_tensor")
    },
}
