"""Which of the arrays of a file are the images and which the labels, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data.splits import chosen_split, split_of

_PAIRS = (
    ("x", "y"),
    ("images", "labels"),
    ("image", "label"),
    ("imgs", "labels"),
    ("img", "label"),
    ("images", "targets"),
    ("data", "labels"),
    ("data", "targets"),
    ("inputs", "labels"),
    ("inputs", "targets"),
    ("x", "labels"),
    ("arr_0", "arr_1"),
)
_WHOLE = "the file"


def pair_of(names: Iterable[str], where: str, reading: Reading) -> tuple[str, str]:
    """The names of the images and of the labels: those that reading.image_column and label_column say, else a usual
    pair, perhaps with a split before or behind (x_test and y_test, train_images and train_labels). Of several splits
    that of reading.split, else the test set. Raises UserError that lists the names."""
    there = list(names)
    if reading.image_column is not None or reading.label_column is not None:
        return _named(there, where, reading)
    found = dict(_by_split(there))
    if not found:
        raise UserError(
            f"expected arrays x and y in {where}, or images and labels, or x_test and y_test, got "
            f"{', '.join(there[:20]) or 'none'}; name them with --image-column and --label-column"
        )
    if reading.split is None and _WHOLE in found:
        return found[_WHOLE]
    splits = {split: pair for split, pair in found.items() if split != _WHOLE}
    return chosen_split(splits, reading.split, where, "test" if "test" in splits else None)[1]


def _named(there: list[str], where: str, reading: Reading) -> tuple[str, str]:
    if reading.split is not None:
        raise UserError(f"expected --split or names of arrays for {where}, got both: the names say which split it is")
    guesses = dict(_by_split(there)).values()
    image = reading.image_column or next((i for i, label in guesses if label == reading.label_column), "x")
    label = reading.label_column or next((label for i, label in guesses if i == reading.image_column), "y")
    for option, name in (("--image-column", image), ("--label-column", label)):
        if name not in there:
            raise UserError(f"expected {option} among the arrays of {where} ({', '.join(there[:20])}), got '{name}'")
    return image, label


def _by_split(there: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The first usual pair of each split."""
    split_and_rest = {name: _split_and_rest(name) for name in there}
    splits = dict.fromkeys(split for split, _ in split_and_rest.values())
    for split in splits:
        own = {rest: name for name, (s, rest) in split_and_rest.items() if s == split}
        pair = next(((own[i], own[label]) for i, label in _PAIRS if i in own and label in own), None)
        if pair is not None:
            yield split, pair


def _split_and_rest(name: str) -> tuple[str, str]:
    """("test", "x") of "x_test", "Xtest" or "test-x"; names without a split are of the whole file."""
    words = [word for word in re.split(r"[_\-. ]+", name.lower()) if word]
    for i, word in enumerate(words):
        if split := split_of(word):
            return split, "_".join(words[:i] + words[i + 1 :])
        if word[:1] in "xy" and (split := split_of(word[1:])):
            return split, "_".join([*words[:i], word[0], *words[i + 1 :]])
    return _WHOLE, name.lower()
