"""Readers of data sets, one file a format; `read_images` picks the one that a --data argument names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.core.limits import in_memory
from robusteval.data.builtin import read_digits, read_foolbox
from robusteval.data.classes import Classes, in_classes
from robusteval.data.folder import read_folder
from robusteval.data.idx import read_idx
from robusteval.data.npz import read_npz
from robusteval.data.parquet import read_parquet

_UNWRITABLE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class DataSet:
    """A kind of data: `read(spec, limit)`, for the specs that `matches`."""

    summary: str
    matches: Callable[[str], bool]
    read: Callable[[str, int | None], Images]


def _holds_idx(spec: str) -> bool:
    folder = Path(spec.removesuffix(":train"))
    return os.path.isdir(folder) and any(folder.glob("*idx3-ubyte*"))


DATASETS = {
    "digits": DataSet(
        "scikit-learn's 8x8 digits: 500 test images, or digits:train",
        lambda spec: spec in ("digits", "digits:train"),
        read_digits,
    ),
    "foolbox:NAME": DataSet(
        "20 images of cifar10, mnist, fashionMNIST, cifar100 or imagenet",
        lambda spec: spec.startswith("foolbox:"),
        read_foolbox,
    ),
    "FILE.parquet": DataSet(
        "Hugging Face style: img or image {bytes}, label", lambda spec: spec.endswith(".parquet"), read_parquet
    ),
    "FILE.npz": DataSet("arrays x (images) and y (labels)", lambda spec: spec.endswith(".npz"), read_npz),
    "IDX_FOLDER": DataSet("MNIST-style IDX files, gz or not; FOLDER:train", _holds_idx, read_idx),
    "IMAGE_FOLDER": DataSet("a subfolder per class", os.path.isdir, read_folder),
}
"""Tried in this order."""


def _as_text(images: Images) -> Images:
    """The same with names that a file can hold: bytes of old archives that are no UTF-8 are spelled as escapes."""
    names = (*images.ids, *images.class_names, images.source)
    if not any(map(_UNWRITABLE.search, names)):
        return images
    ids, classes, (source,) = (
        tuple(text.encode("utf-8", "backslashreplace").decode() for text in texts)
        for texts in (images.ids, images.class_names, (images.source,))
    )
    return replace(images, ids=ids, class_names=classes, source=source)


def check_limit(limit: object) -> None:
    """Raises UserError unless a limit on the number of images is a whole number from 1, or None."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise UserError(f"expected --limit of at least 1, got {limit}")


def read_images(
    spec: str, limit: int | None = None, option: str = "--data", *, classes: Classes | None = None
) -> Images:
    """The images that `spec` names (see DATASETS), the first `limit` of them; `classes` says which label each class has
    (see in_classes). Raises UserError in one line, which names the `option` that `spec` was given for."""
    check_limit(limit)
    for dataset in DATASETS.values():
        if dataset.matches(str(spec)):
            with in_memory(str(spec)):
                images = _as_text(dataset.read(str(spec), limit)).checked()
            return images if classes is None else in_classes(images, classes)
    hint = nearest(str(spec), ["digits", *(f"foolbox:{n}" for n in ("cifar10", "mnist"))])
    raise UserError(
        f"expected a data set, a file or a folder for {option}, got '{spec}', which does not exist ({hint})"
    )
