"""Labels out of a file: whole numbers that int64 holds, and nothing that would have to be guessed into one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core.errors import UserError

_HINT = "give the index of each image's class, 0 to classes - 1"


def labels_of_array(values: NDArray[Any], count: int, where: str) -> Tensor:
    """(N,) int64 from an array (N,) or (N, 1) of any integer type and byte order. Raises UserError."""
    values = values[:, 0] if values.shape == (count, 1) else values
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise UserError(
            f"expected {count} integer labels y in {where}, got {values.dtype} of shape {values.shape}; {_HINT}"
        )
    return _held(values.tolist(), where)


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
