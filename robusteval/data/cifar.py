"""CIFAR-10 and CIFAR-100 as they are distributed: python batches (pickles) and binary batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line, nearest
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.arrays import images_of_arrays
from robusteval.data.labels import labels_of_array
from robusteval.data.shards import names_in
from robusteval.data.splits import chosen_split
from robusteval.data.wanted import Wanted
from robusteval.files.pickled_arrays import PickledArray, read_plain

OF_BATCHES = frozenset({"resize", "crop", "interpolation", "split", "label_column"})
"""What can be asked of them."""
_PIXELS = 3 * 32 * 32
_MOST_BYTES = 2**29
"""Of a batch: the largest is 155 MB."""


@dataclass(frozen=True)
class _Layout:
    """The files of one of the four downloads. labels: what each image has, with the number of classes and where their
    names are: a file, and in a pickle the key."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: dict[str, tuple[int, str, str]]
    batch: Callable[[Path, str, _Layout], tuple[NDArray[Any], NDArray[Any]]]

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.test, *self.train)


def holds_cifar(spec: str) -> bool:
    """Whether a folder holds batches, or a file is one by its name."""
    return _layout(Path(spec)) is not None


def read_cifar(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """The test set, or the split that is asked for, or one batch: (N, 3, 32, 32). Of CIFAR-100 the fine labels, or
    those of reading.label_column. Raises UserError."""
    path = Path(spec)
    layout = _layout(path)
    assert layout is not None
    if path.is_dir():
        folder = path
        names = chosen_split({"test": layout.test, "train": layout.train}, reading.split, spec, "test")[1]
    else:
        folder, names = path.parent, (path.name,)
        if reading.split is not None:
            raise UserError(f"expected --split of a folder of batches, got it of the one batch {spec}")
    key = reading.label_column or next(iter(layout.labels))
    if key not in layout.labels:
        raise UserError(f"expected --label-column of {spec} to be one, got '{key}' ({nearest(key, layout.labels)})")
    pixels, labels, ids = [], [], []
    for name in names:
        x, y = layout.batch(folder / name, key, layout)
        pixels.append(x)
        labels.append(labels_of_array(y, len(x), str(folder / name)).numpy())
        ids += [f"{name}-{i:05d}" for i in range(len(x))]
        if wanted.limit is not None and len(ids) >= wanted.limit:
            break
    count, file, in_pickle = layout.labels[key]
    found = images_of_arrays(np.concatenate(pixels), np.concatenate(labels), spec, wanted, reading, ids=ids)
    return replace(found, class_names=_class_names(folder / file, in_pickle, count), class_count=count)


def _layout(path: Path) -> _Layout | None:
    if os.path.isdir(path):
        there = set(names_in(path)[1])
        return next((found for found in _LAYOUTS if not there.isdisjoint(found.files)), None)
    # A file that is called "test" may be anything.
    return next((found for found in _LAYOUTS if "batch" in path.name and path.name in found.files), None)


def _of_pickle(path: Path, key: str, layout: _Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    held = read_plain(limits.read_limited(path, _MOST_BYTES, f"a batch of {layout.name}"), str(path))
    held = held if isinstance(held, dict) else {}
    x, y = _array(held.get("data"), path), _array(held.get(key), path)
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != _PIXELS:
        got = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else ", ".join(map(str, held)) or "none"
        raise UserError(f"expected data of uint8 and shape (N, {_PIXELS}) in {path}, got {got[:200]}")
    if isinstance(y, np.ndarray):
        return x.reshape(-1, 3, 32, 32), y
    if not isinstance(y, list) or not all(type(label) is int for label in y):
        raise UserError(f"expected a list of whole numbers {key} in {path}, got {type(y).__name__}")
    return x.reshape(-1, 3, 32, 32), np.array(y, dtype=np.int64 if y and max(map(abs, y)) < 2**63 else None)


def _array(found: Any, path: Path) -> Any:
    """The numbers where an array is described, else what was found."""
    try:
        return found.numbers() if isinstance(found, PickledArray) else found
    except ValueError as error:
        raise UserError(f"expected arrays of numbers in {path}, got {first_line(error)}") from error


def _of_bytes(path: Path, key: str, layout: _Layout) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each image is a byte for each kind of label, the coarse before the fine, and then its pixels."""
    content = limits.read_limited(path, _MOST_BYTES, f"a batch of {layout.name}")
    row = len(layout.labels) + _PIXELS
    if len(content) % row or not content:
        raise UserError(f"expected {row} bytes an image in {path}, got {len(content):,} bytes in all")
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    return rows[:, len(layout.labels) :].reshape(-1, 3, 32, 32), rows[:, sorted(layout.labels).index(key)]


def _class_names(path: Path, key: str, count: int) -> tuple[str, ...]:
    """The names of the classes, where the file with them is there."""
    if not path.exists():
        return ()
    content = limits.read_limited(path, limits.TEXT_BYTES, "names of classes")
    if path.suffix == ".txt":
        names: Any = content.decode("utf-8", errors="replace").split()
    else:
        held = read_plain(content, str(path))
        names = held.get(key) if isinstance(held, dict) else None
    if not isinstance(names, list) or len(names) != count:
        got = len(names) if isinstance(names, list) else "none"
        raise UserError(f"expected the names of {count} classes in {path}, got {got}")
    return tuple(name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name) for name in names)


_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_LAYOUTS = (
    _Layout("CIFAR-10", _TRAIN, ("test_batch",), {"labels": (10, "batches.meta", "label_names")}, _of_pickle),
    _Layout(
        "CIFAR-10",
        tuple(f"{name}.bin" for name in _TRAIN),
        ("test_batch.bin",),
        {"labels": (10, "batches.meta.txt", "")},
        _of_bytes,
    ),
    _Layout(
        "CIFAR-100",
        ("train.bin",),
        ("test.bin",),
        {"fine_labels": (100, "fine_label_names.txt", ""), "coarse_labels": (20, "coarse_label_names.txt", "")},
        _of_bytes,
    ),
    _Layout(
        "CIFAR-100",
        ("train",),
        ("test",),
        {"fine_labels": (100, "meta", "fine_label_names"), "coarse_labels": (20, "meta", "coarse_label_names")},
        _of_pickle,
    ),
)
