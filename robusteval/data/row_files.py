"""Rows of an array in a file, read by their places: of a large one no more is in memory than is asked for.

By plain reading, for a file that somebody shortens would end a process that had mapped it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robusteval.core.errors import UserError


@dataclass(frozen=True)
class RowFile:
    """An array (N, ...) of numbers, row after row from a byte of a file on."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows, in their order. Raises UserError where the file is not what it was."""
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        length = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows, at = found.reshape(-1).view(np.uint8).data, 0
        with self.path.open("rb") as file:
            for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
                if len(run):
                    file.seek(self.offset + int(run[0]) * length)
                    if file.readinto(rows[at : at + len(run) * length]) < len(run) * length:
                        raise UserError(f"expected {len(self):,} rows in {self.path}, got fewer: it was changed")
                    at += len(run) * length
        return found
