"""Decoded images put aside: in memory while they are few, in a temporary file when there are more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core import stored
from robusteval.core.errors import UserError
from robusteval.core.stored import StoredPixels
from robusteval.data.decode import from_bytes


class Spool:
    """Images (H, W) or (H, W, C) of uint8, uint16 or float32 in [0, 1], all of one height and width. The file is where
    the system keeps temporary ones (TMPDIR), has no name, and goes with the last who reads it."""

    def __init__(self) -> None:
        self._held: list[NDArray[Any]] = []
        self._numbers = 0
        self._file: Any = None
        self._starts: list[int] = []
        self._forms: dict[tuple[tuple[int, ...], np.dtype[Any]], int] = {}
        self._form_of: list[int] = []
        self._channels = 1

    def add(self, image: NDArray[Any]) -> None:
        """Raises UserError where there is no room for it."""
        self._channels = max(self._channels, 1 if image.ndim == 2 else image.shape[2])
        self._numbers += image.size
        self._held.append(image)
        if self._file is not None or self._numbers > stored.IN_MEMORY:
            self._put_aside()

    def pixels(self) -> Tensor | StoredPixels:
        """(N, C, H, W) in [0, 1]; grey ones get three equal channels where others have colours. Raises UserError where
        there was no room for the last."""
        if self._file is None:
            return from_bytes(self._held, self._channels)
        with _with_room():
            self._file.flush()
        height, width = next(iter(self._forms))[0][:2]
        starts, form_of, forms = np.array(self._starts), np.array(self._form_of, np.uint8), list(self._forms)
        file, channels = self._file, self._channels

        def read(places: Tensor) -> Tensor:
            found = []
            for start, form in zip(starts[places.numpy()].tolist(), form_of[places.numpy()].tolist(), strict=True):
                shape, dtype = forms[form]
                file.seek(start)
                content = file.read(math.prod(shape) * dtype.itemsize)
                found.append(np.frombuffer(content, dtype).reshape(shape))
            return from_bytes(found, channels) if found else torch.empty(0, channels, height, width)

        return StoredPixels(read, torch.arange(len(starts)), (channels, height, width))

    def _put_aside(self) -> None:
        with _with_room():
            self._file = self._file or TemporaryFile()  # noqa: SIM115, it goes with who reads it
            for image in self._held:
                form = image.shape, image.dtype
                self._starts.append(self._file.tell())
                self._form_of.append(self._forms.setdefault(form, len(self._forms)))
                self._file.write(np.ascontiguousarray(image).data)
        self._held.clear()


@contextmanager
def _with_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"expected room for decoded images where temporary files lie, got: {error.strerror}; TMPDIR=FOLDER names "
            "another place, --limit reads fewer"
        ) from error
