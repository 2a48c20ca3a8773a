"""Bytes and arrays of images to pixels (N, C, H, W) in [0, 1]."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robusteval.core.errors import UserError


def decode(content: bytes, name: str) -> NDArray[np.uint8]:
    """An encoded image (H, W) or (H, W, 3); anything that is not grey becomes RGB."""
    try:
        image = Image.open(io.BytesIO(content))
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"expected an image in {name}, got: {str(error).splitlines()[0]}") from error


def from_bytes(images: Sequence[NDArray[Any]]) -> Tensor:
    """uint8 images (H, W) or (H, W, C), all of one size, to pixels (N, C, H, W) in [0, 1]."""
    stacked = np.stack([p[..., None] if p.ndim == 2 else p for p in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 255
