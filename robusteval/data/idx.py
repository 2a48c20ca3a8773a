"""MNIST-style IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.decode import from_bytes
from robusteval.data.labels import labels_of_array

_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
"""What the third byte of an IDX file says of its numbers; those of images and labels are 8."""


def read_idx(spec: str, limit: int | None) -> Images:
    """A folder with *-images-idx3-ubyte and *-labels-idx1-ubyte, gz or not: the test set (t10k), or FOLDER:train.

    The files hold no names of classes: digits, letters and clothes come in the same format.
    """
    folder, train = Path(spec.removesuffix(":train")), spec.endswith(":train")
    path = _chosen(folder, train)
    labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    decoded, labels = _numbers(path, 3), _numbers(labels_path, 1)
    if len(decoded) != len(labels):
        raise UserError(f"expected as many labels as images in {folder}, got {len(labels)} and {len(decoded)}")
    if not decoded.size:
        shape = "x".join(map(str, decoded.shape))
        raise UserError(f"expected at least one image, got {shape} numbers in {path}")
    n = len(decoded[:limit])
    ids = tuple(f"{'train' if train else 'test'}-{i:06d}" for i in range(n))
    return Images(ids, from_bytes(list(decoded[:n])), labels_of_array(labels[:n], n, str(labels_path)), source=spec)


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
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"expected an IDX file in {path}, got: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:2] != bytes(2):
        raise UserError(f"expected an IDX file of bytes in {dimensions} dimensions in {path}, got another header")
    if (content[2], content[3]) != (8, dimensions):
        kind = _TYPES.get(content[2], f"type {content[2]}")
        raise UserError(
            f"expected an IDX file of uint8 in {dimensions} dimensions in {path}, got {kind} in {content[3]}"
        )
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) - header != math.prod(shape):
        raise UserError(f"expected {math.prod(shape)} bytes after the header of {path}, got {len(content) - header}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
