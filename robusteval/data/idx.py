"""MNIST-style IDX files."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.labels import labels_of_array
from robusteval.data.sizes import of_one_size
from robusteval.data.splits import chosen_split
from robusteval.data.wanted import Wanted, taken

_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
"""What the third byte of an IDX file says of its numbers; those of images and labels are 8."""
_PIECE = 2**24
"""Bytes that are unpacked at a time: a header that promises more than there is costs no memory."""


def read_idx(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """A folder with *-images-idx3-ubyte and *-labels-idx1-ubyte, gz or not: the test set (t10k), or the training set.

    The files hold no names of classes: digits, letters and clothes come in the same format.
    """
    split, _ = chosen_split({"test": None, "train": None}, reading.split, spec, "test")
    folder, train = Path(spec), split == "train"
    path = _chosen(folder, train)
    labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    decoded, labels = _numbers(path, 3), _numbers(labels_path, 1)
    if len(decoded) != len(labels):
        raise UserError(f"expected as many labels as images in {folder}, got {len(labels)} and {len(decoded)}")
    if not decoded.size:
        shape = "x".join(map(str, decoded.shape))
        raise UserError(f"expected at least one image, got {shape} numbers in {path}")
    ids = [f"{split}-{i:06d}" for i in range(len(decoded))]
    rows = wanted.rows(ids, spec)
    pixels = of_one_size(((f"image {i} of {path}", decoded[i]) for i in rows), spec, reading)
    found = labels_of_array(taken(labels, rows), len(rows), str(labels_path))
    return Images(tuple(ids[i] for i in rows), pixels, found, source=spec)


def _chosen(folder: Path, train: bool) -> Path:
    """The one file with the images of a split: of the training set it has "train" in its name. Unpacked goes first."""
    found = {path.name.removesuffix(".gz"): path for path in sorted(folder.glob("*idx3-ubyte*"), reverse=True)}
    split = [path for name, path in found.items() if ("train" in name) == train]
    chosen = split or ([] if train else list(found.values()))
    if len(chosen) != 1:
        names = ", ".join(sorted(path.name for path in chosen)) or "none"
        raise UserError(f"expected one {'train' if train else 't10k'}-images-idx3-ubyte in {folder}, got {names}")
    return chosen[0]


def _numbers(path: Path, dimensions: int) -> NDArray[np.uint8]:
    limits.check_file(path, limits.FILE_BYTES, "an IDX file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"expected an IDX file in {path}, got: {error}") from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The numbers, and of the file no more than its header promises."""
    length = 4 + 4 * dimensions
    header = file.read(length)
    if len(header) < length or header[:2] != bytes(2):
        raise UserError(f"expected an IDX file of bytes in {dimensions} dimensions in {path}, got another header")
    if (header[2], header[3]) != (8, dimensions):
        kind = _TYPES.get(header[2], f"type {header[2]}")
        raise UserError(
            f"expected an IDX file of uint8 in {dimensions} dimensions in {path}, got {kind} in {header[3]}"
        )
    shape = [int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    promised = math.prod(shape)
    if not promised:
        raise UserError(f"expected at least one image, got {'x'.join(map(str, shape))} in {path}")
    limits.check_limit_of(path, promised, limits.ARRAY_NUMBERS, "numbers")
    content = io.BytesIO()
    while promised >= content.tell() and (piece := file.read(min(_PIECE, promised + 1 - content.tell()))):
        content.write(piece)
    if content.tell() != promised:
        got = "more" if content.tell() > promised else content.tell()
        raise UserError(f"expected {promised} bytes after the header of {path}, got {got}")
    return np.frombuffer(content.getbuffer(), np.uint8).reshape(shape)
