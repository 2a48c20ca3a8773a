"""Images of other sizes: the shorter side resized, the centre cut out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.core.stored import StoredPixels
from robusteval.data.decode import decode
from robusteval.data.spool import Spool

_KINDS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def sized(image: NDArray[Any], reading: Reading, name: str) -> NDArray[Any]:
    """An image (H, W) or (H, W, C) of uint8, uint16 or float32 in the size that is asked for, in the same type.

    The shorter side becomes `resize` and the longer one floor(resize * longer / shorter), as torchvision's Resize does,
    or both become what `resize` says; then the centre of `crop` x `crop` is cut out, from round((H - crop) / 2) on, as
    its CenterCrop. Raises UserError that names the image where it is smaller than that.
    """
    if reading.resize is not None:
        image = _resized(image, _sides(image, reading), _KINDS[reading.interpolation], name)
    return image if reading.crop is None else _centre(image, reading.crop, name)


def of_one_size(
    images: Iterable[tuple[str, NDArray[Any] | bytes]], where: str, reading: Reading, packed: int | None = None
) -> Tensor | StoredPixels:
    """The pixels (N, C, H, W) in [0, 1] of images, encoded or not, one after another, each with its name, in the size
    that is asked for; put aside where they are many. `packed`: the bytes of their file, where images may share them.
    Raises UserError that names two of them where their sizes differ, and at the first that would be beyond the limits
    on all of them."""
    spool, numbers, length = Spool(), 0, 0
    first: tuple[str, NDArray[Any]] | None = None
    for name, given in images:
        image = sized(decode(given, name) if isinstance(given, bytes) else given, reading, name)
        first = first or (name, image)
        if image.shape[:2] != first[1].shape[:2]:
            sizes = [_size(p) for p in (image, first[1])]
            raise UserError(
                f"expected images of one size in {where}, got {sizes[0]} in {name} and {sizes[1]} in {first[0]}; "
                f"{_step(reading, image, first[1])}"
            )
        numbers += image.size
        length += len(given) if isinstance(given, bytes) else given.nbytes
        limits.check_all_numbers(where, numbers, length if packed is None else packed)
        spool.add(image)
    if first is None:
        raise UserError(f"expected at least one image, got an empty selection of {where}")
    return spool.pixels()


def _step(reading: Reading, *seen: NDArray[Any]) -> str:
    """What makes them one size."""
    if reading.resize is not None:
        return f"--crop {reading.resize} cuts their centres out, all of one size"
    least = min(min(image.shape[:2]) for image in seen)
    return f"--resize {least} --crop {least}, or another number, makes them one: the shorter side, then the centre"


def _sides(image: NDArray[Any], reading: Reading) -> tuple[int, int]:
    """The height and width that an image is resized to."""
    height, width = image.shape[:2]
    if reading.size is not None:
        return reading.size
    side, shorter = int(reading.resize or 0), min(height, width)
    if not shorter or shorter == side:
        return height, width
    other = side * max(height, width) // shorter
    return (other, side) if width < height else (side, other)


def _resized(image: NDArray[Any], sides: tuple[int, int], kind: Image.Resampling, name: str) -> NDArray[Any]:
    if image.shape[:2] == sides or 0 in image.shape:
        return image
    height, width = sides
    limits.check_limit_of(f"{name}, resized,", height * width, limits.IMAGE_PIXELS, "pixels")
    size = (width, height)
    if image.ndim == 2:
        return _channel(image, size, kind)
    return np.stack([_channel(image[..., c], size, kind) for c in range(image.shape[2])], axis=2)


def _channel(channel: NDArray[Any], size: tuple[int, int], kind: Image.Resampling) -> NDArray[Any]:
    """One channel (H, W), resized to a width and a height; never darker or lighter than it was."""
    if channel.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(size, kind))
    resized = np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, kind))
    found = np.clip(resized, channel.min(), channel.max())
    return np.asarray(np.rint(found) if channel.dtype == np.uint16 else found, channel.dtype)


def _centre(image: NDArray[Any], side: int, name: str) -> NDArray[Any]:
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise UserError(
            f"expected at least {side}x{side} pixels for --crop {side}, got {_size(image)} in {name}; --resize {side} "
            "makes the shorter side that long first"
        )
    top, left = round((height - side) / 2), round((width - side) / 2)
    return image[top : top + side, left : left + side]


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
