"""The splits of a data set, however they are spelled: train, test, validation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from robusteval.core.errors import UserError
from robusteval.core.reading import Reading

T = TypeVar("T")
_SPELLED = {
    "train": ("train", "training"),
    "test": ("test", "testing", "t10k"),
    "validation": ("validation", "valid", "val", "dev"),
}
_MEANT = {word: split for split, words in _SPELLED.items() for word in words}


def split_of(word: str) -> str | None:
    """The split that a word stands for, None for another word."""
    return _MEANT.get(word.lower())


def same_split(one: str, other: str) -> bool:
    """Whether two words name one split; other names than the usual ones stand for themselves."""
    return one == other or (split_of(one) is not None and split_of(one) == split_of(other))


def apart(spec: str, reading: Reading) -> tuple[str, Reading]:
    """A data set and how it is read, from DATA:SPLIT, which is short for --split. Raises UserError where both name one
    and differ."""
    place, colon, word = spec.rpartition(":")
    if not colon or not place or split_of(word) is None or place == "foolbox" or os.path.lexists(spec):
        return spec, reading
    if reading.split is not None and not same_split(reading.split, word):
        raise UserError(f"expected one split of {place}, got '{word}' and --split {reading.split}")
    return place, reading.model_copy(update={"split": word})


def chosen_split(found: Mapping[str, T], asked: str | None, where: object, default: str | None = None) -> tuple[str, T]:
    """The split that is asked for with what it stands for, else that of the usual name `default`, else the only one.
    Raises UserError that lists them."""
    wanted = asked if asked is not None else default
    if wanted is not None:
        exact = [name for name in found if name == wanted]
        for name in exact or [name for name in found if same_split(name, wanted)]:
            return name, found[name]
    if asked is None and len(found) == 1:
        return next(iter(found.items()))
    got = "none" if asked is None else f"--split {asked}"
    raise UserError(f"expected one of the splits of {where}, {listed_splits(found)}, got {got}; name it with --split")


def listed_splits(found: Iterable[str]) -> str:
    return ", ".join(sorted(found)) or "of which there are none"
