"""A .csv or .tsv of the paths of images and their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from robusteval.core import limits
from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.core.numbers import is_whole
from robusteval.core.reading import Reading
from robusteval.data.labels import class_names_of
from robusteval.data.sizes import of_one_size
from robusteval.data.splits import same_split
from robusteval.data.text_tables import text_table
from robusteval.data.wanted import Wanted

OF_LISTS = frozenset({"resize", "crop", "interpolation", "split", "image_column", "label_column"})
"""What can be asked of them."""
_PATHS = ("path", "image", "img", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img_path")
_LABELS = ("label", "labels", "class", "target", "y", "category", "class_name", "class_id")
_SPLIT = "split"
_DIGITS = 18
"""Of a label: 64 bits hold them."""


def read_list(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """Rows with a path, from the folder of the file on, and a label: whole numbers, or names, whose classes are counted
    as those of a folder. A column `split` is what reading.split chooses from. Images keep the order of the rows; the id
    of one is its path. Raises UserError, also for a path that leads out of the folder."""
    path = Path(spec)
    header, rows = text_table(path, "paths and labels")
    image, label, split = _columns(header, rows, path, reading)
    chosen = [row for row in rows if _is_of(row, split, reading)]
    if not chosen:
        kinds = ", ".join(sorted({row[split] for row in rows})[:10]) if split is not None else "no column split"
        raise UserError(f"expected images of --split {reading.split} in {path}, got {kinds or 'none'}")
    if split is not None and reading.split is None and len({row[split] for row in rows}) > 1:
        kinds = ", ".join(sorted({row[split] for row in rows})[:10])
        raise UserError(f"expected --split to name one of the splits of {path} ({kinds}), got none")
    labels, names = _labels([row[label] for row in chosen], path)
    kept = wanted.rows([row[image] for row in chosen], spec)
    files = [(chosen[i][image], _inside(path, chosen[i][image])) for i in kept]
    encoded = ((str(p), limits.read_limited(p, limits.IMAGE_BYTES, "an image")) for _, p in files)
    pixels = of_one_size(encoded, spec, reading)
    return Images(tuple(name for name, _ in files), pixels, torch.tensor([labels[i] for i in kept]), names, spec)


def _columns(header: list[str], rows: list[list[str]], path: Path, reading: Reading) -> tuple[int, int, int | None]:
    """The columns of the paths, of the labels and of the splits. Without a header the first row is put back."""
    small = [name.lower() for name in header]
    image = _column(header, small, reading.image_column, _PATHS, "--image-column", path)
    label = _column(header, small, reading.label_column, _LABELS, "--label-column", path)
    if image is None and label is None and len(header) == 2:
        found = [i for i in range(2) if os.path.isfile(path.parent / header[i])]
        if len(found) == 1:
            rows.insert(0, header)
            return found[0], 1 - found[0], None
    if image is None or label is None or image == label:
        lacking = [o for o, found in (("--image-column", image), ("--label-column", label)) if found is None]
        raise UserError(
            f"expected a column of paths (path, image, file, ...) and one of labels (label, class, ...) in {path}, got "
            f"{', '.join(header[:20])}; name them with {' and '.join(lacking) or '--image-column and --label-column'}"
        )
    if not rows:
        raise UserError(f"expected at least one image, got a header alone in {path}")
    return image, label, small.index(_SPLIT) if _SPLIT in small else None


def _column(
    header: list[str], small: list[str], asked: str | None, usual: Sequence[str], option: str, path: Path
) -> int | None:
    if asked is not None:
        if asked not in header:
            raise UserError(f"expected {option} among the columns of {path}, got '{asked}' ({nearest(asked, header)})")
        return header.index(asked)
    return next((small.index(name) for name in usual if name in small), None)


def _is_of(row: list[str], split: int | None, reading: Reading) -> bool:
    return reading.split is None or (split is not None and same_split(row[split], reading.split))


def _labels(cells: list[str], path: Path) -> tuple[list[int], tuple[str, ...]]:
    """Whole numbers as they are; else the places of the names in their order."""
    if "" in cells:
        raise UserError(f"expected a label in every row of {path}, got none in one of them")
    if all(is_whole(cell) and len(cell) <= _DIGITS for cell in cells):
        return [int(cell) for cell in cells], ()
    names = class_names_of(cells, str(path))
    place = {name: i for i, name in enumerate(names)}
    return [place[cell] for cell in cells], names


def _inside(path: Path, named: str) -> Path:
    """The file of a row. Raises UserError where it is not in the folder of the table, by its name."""
    root = os.path.abspath(path.parent)
    found = os.path.abspath(os.path.join(root, named))
    if not os.path.exists(found):
        # As Windows writes it; elsewhere a name may hold the character itself.
        found = os.path.abspath(os.path.join(root, named.replace("\\", "/")))
    if not found.startswith(root.rstrip(os.sep) + os.sep):
        raise UserError(
            f"expected paths in the folder of {path}, got '{named}', which leads out of it; move the table into a "
            "folder above the images"
        )
    if not os.path.exists(found):
        raise UserError(
            f"expected paths from the folder of {path} on, got '{named}', which is not there; move the table, or write "
            "the paths as they lie from it"
        )
    return Path(path.parent, os.path.relpath(found, root))
