"""Arrays of images and labels, as files of arrays and tensors hold them, to images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core import limits, stored
from robusteval.core.errors import UserError
from robusteval.core.images import Images, check_range
from robusteval.core.reading import Reading
from robusteval.core.stored import BLOCK, StoredPixels
from robusteval.data.labels import classes_of_array
from robusteval.data.row_files import RowFile
from robusteval.data.sizes import of_one_size
from robusteval.data.wanted import Wanted

_COLOURS = (1, 3)
OF_ARRAYS = frozenset({"resize", "crop", "interpolation", "image_column", "label_column", "split", "scale"})
"""What can be asked of them."""


def images_of_arrays(
    x: NDArray[Any] | RowFile,
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
    _check_numbers(x.dtype, x.shape, where, reading, called)
    shape, arranged = _channels_first(x.shape, where, called)
    labels, classes = classes_of_array(y, len(x), where)
    names = ids or [f"row-{i:06d}" for i in range(len(x))]
    chosen = wanted.rows(names, where)
    places = torch.arange(len(chosen)) if isinstance(chosen, range) else torch.tensor(chosen)
    labels, own = labels[places], tuple(names[i] for i in chosen)

    def read(places: Tensor) -> Tensor:
        return _scaled(arranged(x[places.numpy()]), reading)

    if not reading.resizes or not math.prod(x.shape):
        found = StoredPixels(read, places, shape)
        return Images(own, _kept(found, x.dtype, where), labels, classes, where)
    rows = ((i, arranged(x[np.array([i])])) for i in chosen)
    scaled = ((i, _scaled(row, reading).numpy() if row.dtype != np.uint8 or reading.scale else row) for i, row in rows)
    named = ((f"image {i} of {where}", np.ascontiguousarray(row[0].transpose(1, 2, 0))) for i, row in scaled)
    return Images(own, of_one_size(named, where, reading), labels, classes, where)


def _kept(pixels: StoredPixels, dtype: np.dtype[Any], where: str) -> Tensor | StoredPixels:
    """In memory where they are few; else as they are stored, once it is seen that they lie in [0, 1]."""
    if math.prod(pixels.shape) <= stored.IN_MEMORY:
        return pixels.read()
    if dtype != np.uint8:
        for rows in torch.arange(len(pixels.places)).split(max(1, BLOCK // math.prod(pixels.image_shape))):
            some = pixels[rows].read()
            check_range(some.min().item(), some.max().item(), where)
    return pixels


def check_array(shape: tuple[int, ...], where: str) -> None:
    """Raises UserError where an array of that shape is beyond the limit on numbers, or has no such shape."""
    count = 1
    for n in shape:
        count *= n
    limits.check_limit_of(where, count, limits.ARRAY_NUMBERS, "numbers")


def _check_numbers(dtype: np.dtype[Any], shape: tuple[int, ...], where: str, reading: Reading, called: str) -> None:
    real = np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)
    if not (dtype == np.uint8 or np.issubdtype(dtype, np.floating) or (real and reading.scale)):
        step = "; --scale NUMBER says which number is white" if real else ""
        raise UserError(
            f"expected {called} of uint8, or of floating point in [0, 1], in {where}, got {dtype} of shape "
            f"{shape}, whose scale is not known{step}"
        )


def _scaled(pixels: NDArray[Any], reading: Reading) -> Tensor:
    """float32, divided by the number that stands for white: that of the file or the one that is asked for."""
    # In the type of the machine: torch knows no other byte order, and no floats of more than 64 bits.
    own = np.uint8 if pixels.dtype == np.uint8 else np.float64 if reading.scale else np.float32
    with np.errstate(over="ignore"):
        found = torch.from_numpy(np.require(pixels, own, ["C", "W"]))
    white = reading.scale or (255 if pixels.dtype == np.uint8 else None)
    return found.float() if white is None else (found / white).float()


def _channels_first(
    shape: tuple[int, ...], where: str, called: str
) -> tuple[tuple[int, int, int], Callable[[NDArray[Any]], NDArray[Any]]]:
    """(C, H, W) of an array of images of that shape, and what makes some of its rows (k, C, H, W). Raises UserError
    where the shape has another number of dimensions, or two readings."""
    if len(shape) == 3:
        return (1, shape[1], shape[2]), lambda rows: rows[:, None]
    if len(shape) != 4:
        raise UserError(
            f"expected {called} of shape (N, C, H, W), (N, H, W) or (N, H, W, C) in {where}, got {shape}; "
            f"{called}.reshape(N, C, H, W) gives rows of numbers their shape"
        )
    if shape[3] not in _COLOURS:
        return (shape[1], shape[2], shape[3]), lambda rows: rows
    if shape[1] in _COLOURS:
        raise UserError(
            f"expected {called} with channels first or last in {where}, got {shape}, which can be read both ways; "
            "save the images as files in a folder, or in a .parquet"
        )
    return (shape[3], shape[1], shape[2]), lambda rows: rows.transpose(0, 3, 1, 2)
