"""Bytes and arrays of pictures to pixels (N, C, H, W) in [0, 1]."""

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
    """An encoded picture (H, W) or (H, W, 3); anything that is not grey becomes RGB."""
    try:
        picture = Image.open(io.BytesIO(content))
        return np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"expected a picture in {name}, got: {str(error).splitlines()[0]}") from error


def from_bytes(pictures: Sequence[NDArray[Any]]) -> Tensor:
    """uint8 pictures (H, W) or (H, W, C), all of one size, to pixels (N, C, H, W) in [0, 1]."""
    stacked = np.stack([p[..., None] if p.ndim == 2 else p for p in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 255
