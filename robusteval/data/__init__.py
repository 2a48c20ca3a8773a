"""Readers of data sets, one file a format; `read_images` picks the one that a --data argument names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from robusteval.core.errors import UserError
from robusteval.core.images import Images, drawn_from
from robusteval.core.limits import in_memory
from robusteval.core.reading import AS_IT_IS, Reading, option_of
from robusteval.data.arrays import OF_ARRAYS
from robusteval.data.builtin import read_digits, read_foolbox
from robusteval.data.cifar import OF_BATCHES, holds_cifar, read_cifar
from robusteval.data.classes import Classes, in_classes
from robusteval.data.columns import OF_TABLES
from robusteval.data.folder import NoImagesError, read_folder
from robusteval.data.hub import OF_FOLDERS, holds_tables, read_tables
from robusteval.data.idx import read_idx
from robusteval.data.lists import OF_LISTS, read_list
from robusteval.data.npz import read_npy, read_npz
from robusteval.data.parquet import read_parquet
from robusteval.data.shards import names_in
from robusteval.data.splits import apart
from robusteval.data.tensors import read_tensors
from robusteval.data.unserved import folders_below, what_it_is
from robusteval.data.wanted import Wanted
from robusteval.data.webdataset import OF_TARS, holds_tars, read_tars

_OF_IMAGES = frozenset({"resize", "crop", "interpolation"})

_UNWRITABLE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class DataSet:
    """A kind of data: `read(spec, wanted, reading)`, for the specs that `matches`; `takes` are the settings of a
    Reading that have a meaning for it."""

    summary: str
    matches: Callable[[str], bool]
    read: Callable[[str, Wanted, Reading], Images]
    takes: frozenset[str] = _OF_IMAGES


def _holds_idx(spec: str) -> bool:
    return any("idx3-ubyte" in name for name in names_in(Path(spec))[1])


def _named(*suffixes: str) -> Callable[[str], bool]:
    return lambda spec: spec.lower().endswith(suffixes)


DATASETS = {
    "digits": DataSet(
        "scikit-learn's 8x8 digits: 500 test images, or digits:train",
        lambda spec: spec == "digits",
        read_digits,
        _OF_IMAGES | {"split"},
    ),
    "foolbox:NAME": DataSet(
        "20 images of cifar10, mnist, fashionMNIST, cifar100 or imagenet",
        lambda spec: spec.startswith("foolbox:"),
        read_foolbox,
    ),
    "FILE.parquet": DataSet(
        "Hugging Face style: img or image {bytes}, label", _named(".parquet"), read_parquet, OF_TABLES
    ),
    "FILE.npz": DataSet("arrays x and y, or images and labels, x_test and y_test", _named(".npz"), read_npz, OF_ARRAYS),
    "FILE.npy": DataSet(
        "an array of images, its labels in another file beside it",
        _named(".npy"),
        read_npy,
        OF_ARRAYS - {"image_column", "split"},
    ),
    "FILE.pt": DataSet(
        "tensors (images, labels), or a dict of them, by torch.save", _named(".pt", ".pth"), read_tensors, OF_ARRAYS
    ),
    "FILE.csv": DataSet(
        "a column of paths of images, one of labels; .tsv too", _named(".csv", ".tsv"), read_list, OF_LISTS
    ),
    "FILE.tar": DataSet("WebDataset: N.jpg and N.cls or N.json, or a folder of tars", holds_tars, read_tars, OF_TARS),
    "CIFAR_FOLDER": DataSet(
        "CIFAR-10 or CIFAR-100, python or binary batches, or one batch", holds_cifar, read_cifar, OF_BATCHES
    ),
    "IDX_FOLDER": DataSet(
        "MNIST-style IDX files, gz or not; FOLDER:train", _holds_idx, read_idx, _OF_IMAGES | {"split"}
    ),
    "TABLES_FOLDER": DataSet(
        "Hugging Face dataset: parquet or arrow shards, save_to_disk", holds_tables, read_tables, OF_FOLDERS
    ),
    "IMAGE_FOLDER": DataSet(
        "a subfolder per class, also below train, val, test", os.path.isdir, read_folder, _OF_IMAGES | {"split"}
    ),
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
    spec: str,
    limit: int | None = None,
    option: str = "--data",
    *,
    classes: Classes | None = None,
    reading: Reading = AS_IT_IS,
    sample: int | None = None,
    seed: int = 0,
) -> Images:
    """The images that `spec` names (see DATASETS), the first `limit` of them, or `sample` drawn by `seed`, read as
    `reading` says; `classes` says which label each class has (see in_classes). SPEC:train, :test and :validation are
    short for reading.split. Raises UserError in one line, which names the `option` that `spec` was given for."""
    check_limit(limit)
    place, reading = apart(str(spec), reading)
    for name, dataset in DATASETS.items():
        if dataset.matches(place):
            _check_taken(reading, dataset, name, place)
            with in_memory(str(spec)):
                try:
                    images = _as_text(dataset.read(place, Wanted(limit, sample, seed), reading))
                except NoImagesError as error:
                    raise UserError(f"{error}{_below(place)}") from error
                source = str(spec) if sample is None else drawn_from(str(spec), seed)
                images = replace(images, source=source, reading=reading).checked()
            return images if classes is None else in_classes(images, classes)
    raise UserError(f"expected a data set, a file or a folder for {option}, got {what_it_is(str(spec))}")


def _below(place: str) -> str:
    """The step from a folder without images to those below it that are data of another kind."""
    others = {name: dataset for name, dataset in DATASETS.items() if dataset.read is not read_folder}
    found = [
        f"{folder}, which is read as {name}"
        for folder in folders_below(Path(place))
        for name, dataset in others.items()
        if dataset.matches(folder)
    ]
    return f"; give {' or '.join(found[:4])}" if found else ""


def _check_taken(reading: Reading, dataset: DataSet, name: str, place: str) -> None:
    """Raises UserError where something is asked that the format has not."""
    for setting, value in reading.asked.items():
        if setting not in dataset.takes:
            known = ", ".join(option_of(taken) for taken in sorted(dataset.takes))
            raise UserError(
                f"expected of {place}, which is read as {name}, one of {known}, got {option_of(setting)} {value}"
            )
