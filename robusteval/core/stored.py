"""Pixels that lie in a file, or in memory in a smaller type, until they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_CPU = torch.device("cpu")
IN_MEMORY = 2**24
"""Numbers, 64 MiB of float32: the pixels of a data set that are no more than that are held in memory."""
BLOCK = 2**20
"""Numbers that are read at once where nobody needs more."""


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels (N, C, H, W), as a tensor that is read in parts.

    source: the pixels (k, C, H, W) of so many places (k,), floating point in [0, 1], on the CPU, the same each time;
    places: where each of the N lies, (N,) int64; image_shape: (C, H, W); device and dtype: of what is read.
    """

    source: Callable[[Tensor], Tensor]
    places: Tensor
    image_shape: tuple[int, int, int]
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.places), *self.image_shape

    def __getitem__(self, rows: Tensor) -> StoredPixels:
        """Those of some rows; none is read."""
        return replace(self, places=self.places[rows.cpu()])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> StoredPixels:
        """The same, to be read there and in that type."""
        return replace(self, device=torch.device(device), dtype=dtype)

    def read(self) -> Tensor:
        """All of them in memory. Raises UserError where they are no longer what they were."""
        return self.source(self.places).to(self.device, self.dtype)
