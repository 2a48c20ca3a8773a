"""Arrays of images and labels, as files of arrays and tensors hold them, to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.labels import classes_of_array
from robusteval.data.sizes import of_one_size
from robusteval.data.wanted import Wanted, taken

_COLOURS = (1, 3)
OF_ARRAYS = frozenset({"resize", "crop", "interpolation", "image_column", "label_column", "split", "scale"})
"""What can be asked of them."""


def images_of_arrays(
    x: NDArray[Any],
    y: NDArray[Any],
    where: str,
    wanted: Wanted,
    reading: Reading,
    called: str = "x",
    ids: Sequence[str] = (),
) -> Images:
    """x: uint8, or floating point in [0, 1], or any real numbers that reading.scale divides; (N, C, H, W), (N, H, W),
    or (N, H, W, C) with C 1 or 3. y: (N,) or (N, 1) integers, or names of
    classes. In any byte order. `called` is what the file calls x,
    `ids` the names of the images, else row-000000 onwards. Raises UserError."""
    _check_numbers(x, where, reading, called)
    pixels = _channels_first(x, where, called)
    labels, classes = classes_of_array(y, len(x), where)
    names = ids or [f"row-{i:06d}" for i in range(len(pixels))]
    chosen = wanted.rows(names, where)
    pixels, labels = taken(pixels, chosen), labels[list(chosen)]
    own = tuple(names[i] for i in chosen)
    if not reading.resizes or not pixels.size:
        return Images(own, _scaled(pixels, reading), labels, classes, where)
    rows = (_scaled(row, reading) if row.dtype != np.uint8 or reading.scale else row for row in pixels)
    last = (np.ascontiguousarray(np.asarray(row).transpose(1, 2, 0)) for row in rows)
    named = ((f"image {i} of {where}", row) for i, row in zip(chosen, last, strict=True))
    return Images(own, of_one_size(named, where, reading), labels, classes, where)


def check_array(shape: tuple[int, ...], where: str) -> None:
    """Raises UserError where an array of that shape is beyond the limit on numbers, or has no such shape."""
    count = 1
    for n in shape:
        count *= n
    limits.check_limit_of(where, count, limits.ARRAY_NUMBERS, "numbers")


def _check_numbers(x: NDArray[Any], where: str, reading: Reading, called: str) -> None:
    real = np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)
    if not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating) or (real and reading.scale)):
        step = "; --scale NUMBER says which number is white" if real else ""
        raise UserError(
            f"expected {called} of uint8, or of floating point in [0, 1], in {where}, got {x.dtype} of shape "
            f"{x.shape}, whose scale is not known{step}"
        )


def _scaled(pixels: NDArray[Any], reading: Reading) -> Tensor:
    """float32, divided by the number that stands for white: that of the file or the one that is asked for."""
    # In the type of the machine: torch knows no other byte order, and no floats of more than 64 bits.
    own = np.uint8 if pixels.dtype == np.uint8 else np.float64 if reading.scale else np.float32
    with np.errstate(over="ignore"):
        found = torch.from_numpy(np.require(pixels, own, ["C", "W"]))
    white = reading.scale or (255 if pixels.dtype == np.uint8 else None)
    return found.float() if white is None else (found / white).float()


def _channels_first(x: NDArray[Any], where: str, called: str) -> NDArray[Any]:
    """(N, C, H, W). Raises UserError where the shape has another number of dimensions, or two readings."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise UserError(
            f"expected {called} of shape (N, C, H, W), (N, H, W) or (N, H, W, C) in {where}, got {x.shape}; "
            f"{called}.reshape(N, C, H, W) gives rows of numbers their shape"
        )
    if x.shape[3] not in _COLOURS:
        return x
    if x.shape[1] in _COLOURS:
        raise UserError(
            f"expected {called} with channels first or last in {where}, got {x.shape}, which can be read both ways; "
            "save the images as files in a folder, or in a .parquet"
        )
    return x.transpose(0, 3, 1, 2)
