"""A folder of images with a subfolder per class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.numbers import is_whole
from robusteval.data.decode import decode, of_one_size

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_NO_CLASSES = {"__macosx", "__pycache__", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
"""Folders that systems and programs leave, beside those whose name begins with a dot."""
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}


def read_folder(spec: str, limit: int | None) -> Images:
    """Classes are the subfolders, numbers in the order of numbers and other names in that of the alphabet; the id of an
    image is its path in the folder. Hidden folders and files, and those that systems leave, are no classes or images.

    Images come in the order of a hash of that path, so that the first N are a fair sample of all classes.
    """
    root = Path(spec)
    classes = [p.name for p in _visible(root) if p.is_dir()]
    if classes and {name.lower() for name in classes} <= _SPLITS:
        raise UserError(f"expected a subfolder per class in {root}, got {', '.join(sorted(classes))}: name one of them")
    classes = sorted(classes, key=_in_order)
    label_of = {name: i for i, name in enumerate(classes)}
    files = [p for name in classes for p in _images(root / name)]
    if not files:
        raise UserError(f"expected a subfolder per class with images in {root}, got none")
    files = sorted(files, key=lambda p: hashlib.sha256(p.relative_to(root).as_posix().encode()).digest())[:limit]
    decoded = [decode(_content(p), str(p)) for p in files]
    labels = torch.tensor([label_of[p.relative_to(root).parts[0]] for p in files])
    ids = tuple(p.relative_to(root).as_posix() for p in files)
    return Images(ids, of_one_size(decoded, [str(p) for p in files], str(root)), labels, tuple(classes), spec)


def _in_order(name: str) -> tuple[bool, int, str]:
    """Whole numbers first, by their value."""
    return (False, int(name), name) if is_whole(name) and len(name) < 20 else (True, 0, name)


def _visible(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _NO_CLASSES]
    except OSError as error:
        raise UserError(f"expected a folder that can be read, got {folder}: {error.strerror}") from error


def _images(folder: Path) -> list[Path]:
    """The images in a folder and the folders below it."""
    found: list[Path] = []
    for path in _visible(folder):
        if path.is_dir() and not path.is_symlink():
            found += _images(path)
        elif path.suffix.lower() in _SUFFIXES:
            found.append(path)
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"expected an image that can be read, got {path}: {error.strerror}") from error
