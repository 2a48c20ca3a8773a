"""Encoded images and arrays of images to pixels (N, C, H, W) in [0, 1]: what has one meaning; the rest is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.data.encoded import check_time, check_whole

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What is read, whatever a file's name says: decoders that only compute. Others of Pillow start programs."""
_GREY = ("1", "L", "LA", "La")
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_WIDE = ("I", "F")
"""Modes of numbers whose largest value no file says, but for a 16-bit image that is read as "I"."""
_OF_16_BITS = ("PNG", "PPM")
"""Formats without grey of more than 16 bits: there "I" has the scale 0 to 65535."""
_LARGEST = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
"""The number that stands for white."""


def decode(content: bytes, name: str) -> NDArray[Any]:
    """An encoded image as numbers of uint8 or, of 16-bit grey, uint16: (H, W) if it is grey, else RGB (H, W, 3).

    Upright as its EXIF orientation says; palettes, CMYK and other colours as RGB. Raises UserError that names the image
    where it has several frames, transparent pixels or numbers of no known scale, is larger than the limits, is of a
    format beyond FORMATS, or cannot be read.
    """
    limits.check_limit_of(name, len(content), limits.IMAGE_BYTES, "bytes")
    check_time(content, name)
    try:
        with _without_limit_of_pillow():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            limits.check_limit_of(name, image.width * image.height, limits.IMAGE_PIXELS, "pixels")
        check_whole(image, content, name)
        _check(image, name)
        return _numbers(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise UserError(
            f"expected an image in {name} ({known}), got {len(content):,} bytes of something else"
        ) from error
    except Exception as error:  # a broken image makes its decoder raise all kinds
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"expected an image in {name}, got: {problem}") from error


def _check(image: Image.Image, name: str) -> None:
    # Cameras put previews behind the image of an MPO file.
    if image.format != "MPO" and _has_second_frame(image):
        raise UserError(f"expected one image in {name}, got several frames; save the one that is meant")
    if image.mode in _WIDE and not (image.mode == "I" and image.format in _OF_16_BITS):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit whole numbers"
        raise UserError(
            f"expected an image of 8 or 16 bits in {name}, got {kind} of no known scale; save it as 8 or 16 bits, or "
            "all images as an .npz of floating point in [0, 1]"
        )
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise UserError(
            f"expected an opaque image in {name}, got transparent pixels, whose colour depends on what lies behind; "
            "paint it on the background that is meant"
        )


def _has_second_frame(image: Image.Image) -> bool:
    """Without counting them, for which a file may have to be read to its end."""
    if image.format not in ("GIF", "TIFF"):
        return getattr(image, "n_frames", 1) > 1
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return False
    return True


@contextmanager
def _without_limit_of_pillow() -> Iterator[None]:
    """Its limit on pixels has no opt-out that names itself; ours is checked before anything is decoded."""
    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _numbers(image: Image.Image) -> NDArray[Any]:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))


def from_bytes(images: Sequence[NDArray[Any]], channels: int) -> Tensor:
    """Images (H, W) or (H, W, C) of uint8, uint16 or float32 in [0, 1], all of one height and width, to pixels
    (N, C, H, W) in [0, 1] of so many channels: where they are three, grey ones get three equal ones."""
    with_channels = [p[..., None] if p.ndim == 2 else p for p in images]
    pixels = np.empty((len(images), channels, *images[0].shape[:2]), dtype=np.float32)
    for i, image in enumerate(with_channels):
        largest = np.float32(_LARGEST[image.dtype])
        np.divide(image.transpose(2, 0, 1), largest, out=pixels[i], dtype=np.float32, casting="unsafe")
    return torch.from_numpy(pixels)
