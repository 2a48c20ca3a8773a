"""A folder of images with a subfolder per class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.labels import in_order
from robusteval.data.sizes import of_one_size
from robusteval.data.splits import chosen_split, split_of
from robusteval.data.wanted import Wanted

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_NO_CLASSES = {"__macosx", "__pycache__", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
"""Folders that systems and programs leave, beside those whose name begins with a dot."""


class NoImagesError(UserError):
    """A folder is no image folder: perhaps one below it is data of another kind."""


def read_folder(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """Of a folder of splits that of reading.split. Classes are the subfolders, numbers in the order of numbers and
    other names in that of the alphabet; the id of an image is its path in the folder. Hidden folders and files, and
    those that systems leave, are no classes or images.

    Images come in the order of a hash of that path, so that the first N are a fair sample of all classes.
    """
    root = _split(Path(spec), reading)
    classes = [p.name for p in _visible(root) if p.is_dir()]
    classes = sorted(classes, key=in_order)
    label_of = {name: i for i, name in enumerate(classes)}
    files = _images(root, classes)
    if not files:
        raise NoImagesError(f"expected a subfolder per class with images in {root}, got none{_step(root)}")
    files = sorted(files, key=lambda p: hashlib.sha256(os.fsencode(p.relative_to(root).as_posix())).digest())
    files = [files[i] for i in wanted.rows([p.relative_to(root).as_posix() for p in files], spec)]
    encoded = ((str(p), limits.read_limited(p, limits.IMAGE_BYTES, "an image")) for p in files)
    labels = torch.tensor([label_of[p.relative_to(root).parts[0]] for p in files])
    ids = tuple(p.relative_to(root).as_posix() for p in files)
    return Images(ids, of_one_size(encoded, str(root), reading), labels, tuple(classes), spec)


def _split(root: Path, reading: Reading) -> Path:
    """The folder of classes: `root`, or the one in it that is named as the split."""
    folders = {p.name: p for p in _visible(root) if p.is_dir()}
    if reading.split is not None:
        return chosen_split(folders, reading.split, root)[1]
    if folders and all(split_of(name) for name in folders):
        names = ", ".join(sorted(folders))
        raise UserError(
            f"expected a subfolder per class in {root}, got {names}: name one of them with --split {min(folders)}"
        )
    return root


def _step(root: Path) -> str:
    """What to do with images that lie in no subfolder."""
    if not any(p.suffix.lower() in _SUFFIXES for p in _visible(root)):
        return ""
    lists = [p for p in _visible(root) if p.suffix.lower() in (".csv", ".tsv")]
    return f"; give {min(lists)}" if lists else "; give a .csv beside them with their paths and labels"


def _visible(folder: Path) -> list[Path]:
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower() not in _NO_CLASSES:
                    found.append(Path(entry.path))
                    limits.check_limit_of(folder, len(found), limits.FOLDER_ENTRIES, "files and folders")
    except OSError as error:
        raise UserError(f"expected a folder that can be read, got {folder}: {error.strerror}") from error
    return found


def _images(root: Path, classes: Sequence[str]) -> list[Path]:
    """The images in the folders of the classes and the folders below these."""
    found: list[Path] = []
    todo, seen = [root / name for name in reversed(classes)], 0
    while todo:
        folder = todo.pop()
        depth = len(folder.relative_to(root).parts)
        limits.check_limit_of(root, depth, limits.FOLDER_DEPTH, "folders in one another")
        for path in _visible(folder):
            seen += 1
            if path.is_dir() and not path.is_symlink():
                todo.append(path)
            elif path.suffix.lower() in _SUFFIXES:
                found.append(path)
        limits.check_limit_of(root, seen, limits.FOLDER_ENTRIES, "files and folders")
    return found
