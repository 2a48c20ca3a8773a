"""What a path is that no reader takes, and the nearest way that one does."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from robusteval.core.errors import LONGEST, first_line, nearest
from robusteval.data.shards import names_in

_ARRAYS = "save its arrays as an .npz with images and labels"
_LIST = "list the paths of the images with their labels in a .csv"
_PNG = "save it as .png in FOLDER/CLASS/"
_UNPACK = "unpack it and give the folder"
_NEAREST: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".7z", ".rar", ".tbz2"), "a packed archive", _UNPACK),
    ((".gz", ".bz2", ".xz", ".zst"), "a packed file", "unpack it"),
    (
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"),
        "one image",
        "put it into FOLDER/CLASS/ and give FOLDER, or list it with its label in a .csv",
    ),
    ((".h5", ".hdf5"), "an HDF5 file", _ARRAYS),
    ((".mat",), "a MATLAB file", _ARRAYS),
    ((".pkl", ".pickle", ".joblib", ".dill"), "a pickle, which may run code when it is opened", _ARRAYS),
    ((".tfrecord", ".tfrecords"), "records of TensorFlow", f"{_ARRAYS}, or the images as a WebDataset .tar"),
    ((".beton", ".lmdb", ".mdb", ".rec", ".zarr", ".nc"), "a format without a reader here", _ARRAYS),
    ((".json", ".jsonl", ".ndjson", ".xml", ".yaml"), "a list in text", _LIST),
    ((".xlsx", ".xls", ".ods"), "a spreadsheet", "save it as .csv, with a column of paths and one of labels"),
    ((".feather",), "a Feather file", "save the table as .parquet"),
    (
        (".safetensors", ".ckpt", ".bin", ".onnx", ".pt2", ".keras", ".pb", ".tflite", ".mlmodel", ".gguf", ".ts"),
        "a file of weights or a program",
        "give the images",
    ),
    ((".mp4", ".avi", ".mov", ".mkv", ".webm"), "a video", "save its frames as images in FOLDER/CLASS/"),
    ((".heic", ".heif", ".avif", ".jxl", ".dcm", ".nii", ".svg", ".pdf"), "an image without a reader", _PNG),
    ((".txt",), "text", "name it .csv, with a column of paths and one of labels"),
)
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_OTHER = "no format that is read (robusteval list data)"


def folders_below(root: Path, depth: int = 2, most: int = 100) -> Iterator[str]:
    """The first folders in a folder and in those, in which data may lie that was meant."""
    for name in sorted(names_in(root)[0])[:most]:
        yield str(root / name)
        if depth > 1:
            yield from folders_below(root / name, depth - 1, most)


def what_it_is(spec: str) -> str:
    """A --data argument without a reader in words: that it does not exist only where it does not, else what it is and
    what to give instead."""
    quoted = f"'{spec}'"
    try:
        mode = os.stat(spec).st_mode
    except FileNotFoundError:
        if os.path.islink(spec):
            return f"{quoted}, a link to what does not exist"
        hint = nearest(spec, ["digits", *(f"foolbox:{n}" for n in ("cifar10", "mnist"))])
        return f"{quoted}, which does not exist ({hint})"
    except (OSError, ValueError) as error:
        return f"{quoted[: 2 * LONGEST]}: {getattr(error, 'strerror', None) or first_line(error)}"
    if not stat.S_ISREG(mode):
        return f"{quoted}, which is {_KINDS.get(stat.S_IFMT(mode), 'something else')}"
    for suffixes, what, step in _NEAREST:
        if spec.lower().endswith(suffixes):
            return f"{quoted}, which is {what}: {step}"
    return f"{quoted}, which is {_OTHER}: {_ARRAYS}, or the images in a folder per class"
