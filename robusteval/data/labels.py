"""Labels out of a file: whole numbers that int64 holds, or names of classes, and nothing that would have to be guessed
into one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core.errors import LONGEST, UserError
from robusteval.core.numbers import is_whole

_HINT = "give the index of each image's class, 0 to classes - 1"
_MOST_NAMES = 100_000


def in_order(name: str) -> tuple[bool, int, str]:
    """Names of classes in the order in which they are counted: whole numbers first, by their value."""
    return (False, int(name), name) if is_whole(name) and len(name) < 20 else (True, 0, name)


def class_names_of(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names of classes in the order in which they are counted, as those of a folder are. Raises UserError for an
    empty one, one that looks like a number, and for too many of them."""
    found = sorted(set(names), key=in_order)
    wrong = next((name for name in found if not name or is_whole(name.lstrip("+-").replace(".", "", 1))), None)
    if wrong is not None:
        raise UserError(f"expected labels that are all whole numbers from 0 or all names in {where}, got '{wrong}'")
    longest = max(map(len, found), default=0)
    if len(found) > _MOST_NAMES or longest > 10 * LONGEST:
        raise UserError(
            f"expected at most {_MOST_NAMES:,} names of classes of at most {10 * LONGEST} characters in {where}, got "
            f"{len(found):,} of up to {longest:,}"
        )
    return tuple(found)


def labels_of_array(values: NDArray[Any], count: int, where: str) -> Tensor:
    """(N,) int64 from an array (N,) or (N, 1) of any integer type and byte order. Raises UserError."""
    values = values[:, 0] if values.shape == (count, 1) else values
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise UserError(
            f"expected {count} integer labels in {where}, got {values.dtype} of shape {values.shape}; "
            f"{_step(values, count)}"
        )
    return _held(values.tolist(), where)


def _step(values: NDArray[Any], count: int) -> str:
    if values.ndim == 2 and values.shape[0] == count:
        return "give the place of the 1 in each row: labels.argmax(1)"
    if values.dtype == object:
        return "give names as text: labels.astype(str)"
    return _HINT if values.shape[:1] == (count,) else "give one label for each image"


def classes_of_array(values: NDArray[Any], count: int, where: str) -> tuple[Tensor, tuple[str, ...]]:
    """The labels of an array, and the names of the classes where it is one of text. Raises UserError."""
    flat = values[:, 0] if values.shape == (count, 1) else values
    if values.dtype.kind != "U" or flat.shape != (count,) or _of_digits(np.unique(flat).tolist()):
        return labels_of_array(values, count, where), ()
    texts = flat.tolist()
    names = class_names_of(texts, where)
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place[text] for text in texts]), names


def _of_digits(texts: Collection[str]) -> bool:
    return bool(texts) and all(map(is_whole, texts))


def is_of_names(kind: pa.DataType) -> bool:
    """Whether a column of a table is text."""
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


def labels_by_name(column: pa.ChunkedArray, names: tuple[str, ...], where: str) -> Tensor:
    """(N,) int64: the places of the names in a column of text. Raises UserError for a label that is missing."""
    values = column.to_pylist()
    if None in values:
        raise UserError(f"expected a label in every row of {where}, got null in row {values.index(None)}")
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place[value] for value in values], dtype=torch.int64)


def labels_of_column(column: pa.ChunkedArray, where: str, name: str = "label") -> Tensor:
    """(N,) int64 from a column of a table. Raises UserError for another type, and for a label that is missing."""
    if not pa.types.is_integer(column.type):
        raise UserError(f"expected whole numbers in the column {name} of {where}, got {column.type}; {_HINT}")
    values = column.to_pylist()
    if None in values:
        raise UserError(f"expected a label in every row of {where}, got null in row {values.index(None)}")
    return _held(values, where)


def _held(values: list[int], where: str) -> Tensor:
    try:
        return torch.tensor(values, dtype=torch.int64)
    except (OverflowError, RuntimeError, ValueError) as error:
        raise UserError(f"expected labels that 64 bits hold in {where}, got {max(values)}; {_HINT}") from error
