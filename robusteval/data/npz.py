"""Arrays of images and labels in an .npz file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.labels import labels_of_array

_COLOURS = (1, 3)
_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""The later format is for names of fields."""


def read_npz(spec: str, limit: int | None) -> Images:
    """x: uint8, or floating point in [0, 1]; (N, C, H, W), (N, H, W), or (N, H, W, C) with C 1 or 3. y: (N,) integers.
    In any byte order."""
    x, y = _arrays(spec)
    if not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating)):
        raise UserError(
            f"expected x of uint8, or of floating point in [0, 1], in {spec}, got {x.dtype} of shape {x.shape}, whose "
            "scale is not known"
        )
    pixels = _channels_first(x, spec)[:limit]
    labels = labels_of_array(y, len(x), spec)
    # In the type of the machine: torch knows no other byte order, and no floats of more than 64 bits.
    with np.errstate(over="ignore"):
        found = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.uint8 if x.dtype == np.uint8 else np.float32))
    ids = tuple(f"row-{i:06d}" for i in range(len(found)))
    return Images(ids, found.float() / 255 if x.dtype == np.uint8 else found, labels[:limit], source=spec)


def _arrays(spec: str) -> tuple[NDArray[Any], NDArray[Any]]:
    limits.check_file(spec, limits.FILE_BYTES, "an .npz file")
    try:
        archive = np.load(spec, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"expected an .npz file with arrays x and y in {spec}, got a single array, as in an .npy")
        with archive:
            if {"x", "y"} - set(archive.files):
                raise UserError(f"expected arrays x and y in {spec}, got {', '.join(archive.files) or 'none'}")
            return _array(archive, "x", spec), _array(archive, "y", spec)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # numpy raises all kinds for a file that is not its own
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"expected an .npz file of plain arrays in {spec}, got: {problem}") from error


def _array(archive: np.lib.npyio.NpzFile, key: str, spec: str) -> NDArray[Any]:
    """One array, unpacked only if its header keeps to the limits."""
    members = archive.zip
    assert members is not None
    member = key if key in members.namelist() else f"{key}.npy"
    limits.check_limit_of(f"{key} of {spec}", members.getinfo(member).file_size, limits.FILE_BYTES, "bytes")
    with members.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise UserError(f"expected plain numbers in {key} of {spec}, got an array of format {version}")
        shape = _HEADERS[version](file)[0]
    limits.check_limit_of(f"{key} of {spec}", math.prod(shape), limits.ARRAY_NUMBERS, "numbers")
    return np.asarray(archive[key])


def _channels_first(x: NDArray[Any], spec: str) -> NDArray[Any]:
    """(N, C, H, W). Raises UserError where the shape has another number of dimensions, or two readings."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise UserError(f"expected x of shape (N, C, H, W), (N, H, W) or (N, H, W, C) in {spec}, got {x.shape}")
    if x.shape[3] not in _COLOURS:
        return x
    if x.shape[1] in _COLOURS:
        raise UserError(
            f"expected x with channels first or last in {spec}, got {x.shape}, which can be read both ways; save the "
            "images as files in a folder, or in a .parquet"
        )
    return x.transpose(0, 3, 1, 2)
