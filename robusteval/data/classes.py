"""Which class of a model each class of the data is: by a list of names, or by numbers that are given as names."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from robusteval.core import limits
from robusteval.core.errors import LONGEST, UserError, nearest
from robusteval.core.images import Images
from robusteval.core.numbers import is_whole

Classes = str | int | Path | Sequence[str]
"""As --classes takes them: a file with one name a line, or a number; in Python a list of names too."""
MOST_CLASSES = 10**6


def in_classes(images: Images, classes: Classes, option: str = "--classes") -> Images:
    """The images with the labels that a list of classes gives them.

    A list: the place of a class in it is its label. Data with names of classes (a folder, parquet) is looked up by
    name; data with mere numbers keeps them. A number N: the names are the labels 0 to N - 1 themselves, and data with
    mere numbers keeps them. Raises UserError where a class of the images is not among them.
    """
    count = _count(classes)
    if count is not None:
        if not 2 <= count <= MOST_CLASSES:
            raise UserError(f"expected {option} of 2 to {MOST_CLASSES:,} classes, got {classes}")
        return _numbered(images, count, option)
    if isinstance(classes, str | Path):
        return by_name(images, _read(Path(classes), option), str(classes))
    names = () if isinstance(classes, int) else tuple(map(str, classes))
    if len(names) < 2:
        raise UserError(f"expected {option} of at least two names, got {len(names)}")
    return by_name(images, names, option)


def by_name(images: Images, names: tuple[str, ...], where: str) -> Images:
    """The images with the labels that their classes have in `names`, which stand in `where`. Names are the same
    however their accents are encoded. Images without names of classes get these, and keep their labels. Raises
    UserError with the names of both sides where a class of the images is not there, or is there twice."""
    own = images.class_names
    if not own or own == names:
        return replace(images, class_names=names, class_count=len(names)).checked()
    places: dict[str, list[int]] = {}
    for i, name in enumerate(map(_plain, names)):
        places.setdefault(name, []).append(i)
    label_of = torch.full((len(own),), -1)
    for label in images.labels.unique().tolist():
        found = places.get(_plain(own[label]), [])
        if len(found) != 1:
            often = f"{len(found)} times" if found else "not"
            raise UserError(
                f"expected every class of {images.source} ({_few(own)}) once among those of {where} ({_few(names)}), "
                f"got '{own[label]}' {often} ({nearest(own[label], set(names)) if len(names) < 100 else 'see there'}); "
                "name them in the order of the model with --classes FILE, or say with --classes N that their names are "
                "its numbers"
            )
        label_of[label] = found[0]
    labels = label_of.to(images.labels.device)[images.labels]
    return replace(images, labels=labels, class_names=names, class_count=len(names))


def _numbered(images: Images, count: int, option: str) -> Images:
    """The images whose names of classes are numbers, with these as labels; without names they keep theirs."""
    own = images.class_names
    if not own:
        return replace(images, class_count=count).checked()
    wrong = next((name for name in own if not is_whole(name) or len(name) > 9 or int(name) >= count), None)
    numbers = [int(name) for name in own] if wrong is None else []
    if wrong is not None or len(set(numbers)) < len(numbers):
        got = f"'{wrong}'" if wrong is not None else "one number twice"
        raise UserError(
            f"expected classes named 0 to {count - 1} in {images.source} for {option} {count}, got {got} among "
            f"{_few(own)}; a file for {option} can name them, one a line"
        )
    labels = torch.tensor(numbers, device=images.labels.device)[images.labels]
    return replace(images, labels=labels, class_names=(), class_count=count)


def _count(classes: Classes) -> int | None:
    """The number that is given, if one is."""
    if isinstance(classes, str):
        return int(classes) if is_whole(classes) and len(classes) < 20 else None
    return classes if isinstance(classes, int) else None


def _read(path: Path, option: str) -> tuple[str, ...]:
    """The names in a file, one a line."""
    wanted = f"{option} as a number or a file with a name a line"
    content = limits.read_limited(path, limits.TEXT_BYTES, wanted)
    try:
        text = content.decode("utf-8-sig")
    except ValueError as error:
        raise UserError(f"expected {wanted}, got {path}: {error}") from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(names) < 2 or not all(names) or max(map(len, names)) > 10 * LONGEST:
        got = f"line {names.index('') + 1} empty" if "" in names else f"{len(names)} of them"
        raise UserError(f"expected at least two names of classes in {path}, one a line, got {got}")
    return names


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _few(names: Sequence[str], most: int = 12) -> str:
    text = ", ".join(names[:most])
    return f"{text[: 3 * LONGEST]}, ... {len(names)} in all" if len(names) > most or len(text) > 3 * LONGEST else text
