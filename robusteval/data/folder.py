"""A folder of images with a subfolder per class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.decode import decode, from_bytes

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def read_folder(spec: str, limit: int | None) -> Images:
    """Classes are the subfolders in alphabetical order; the id of an image is its path in the folder.

    Images come in the order of a hash of that path, so that the first N are a fair sample of all classes.
    """
    root = Path(spec)
    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [p for name in classes for p in (root / name).rglob("*") if p.suffix.lower() in _SUFFIXES]
    if not files:
        raise UserError(f"expected a subfolder per class with images in {root}, got none")
    files = sorted(files, key=lambda p: hashlib.sha256(p.relative_to(root).as_posix().encode()).digest())[:limit]
    decoded = [decode(p.read_bytes(), str(p)) for p in files]
    for path, image in zip(files, decoded, strict=True):
        if image.shape != decoded[0].shape:
            raise UserError(
                f"expected images of one size in {root}, got {image.shape} in {path} "
                f"and {decoded[0].shape} in {files[0]}"
            )
    labels = torch.tensor([classes.index(p.relative_to(root).parts[0]) for p in files])
    ids = tuple(p.relative_to(root).as_posix() for p in files)
    return Images(ids, from_bytes(decoded), labels, tuple(classes), spec)
