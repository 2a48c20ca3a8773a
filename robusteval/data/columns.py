"""Tables of encoded images and labels, as Hugging Face's datasets keeps them: which columns, and what a cell holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from robusteval.core import limits
from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.core.numbers import is_whole
from robusteval.core.reading import Reading
from robusteval.data.labels import class_names_of, is_of_names, labels_by_name, labels_of_column
from robusteval.data.sizes import of_one_size
from robusteval.data.wanted import Wanted

OF_TABLES = frozenset({"resize", "crop", "interpolation", "image_column", "label_column"})
"""What can be asked of them."""
_IMAGES = ("img", "image")
_LABELS = ("label", "labels")


@dataclass(frozen=True)
class RowsOfImages:
    """A table that is read in pieces. batches(columns, most): the rows in order, so many at a time at most, none of
    which unpacks to more than the limit."""

    where: str
    schema: pa.Schema
    rows: int
    batches: Callable[[list[str], int], Iterator[pa.RecordBatch]]


def images_of_tables(
    tables: Sequence[RowsOfImages], spec: str, wanted: Wanted, reading: Reading, features: object = None
) -> Images:
    """The images of tables of one schema, one table after another: a column of encoded images (a struct with `bytes`,
    or mere bytes) and one of labels: integers, or the names of classes. Of integers the names of the classes are in the
    schema, else in `features`, as dataset_info.json has them. Raises UserError."""
    image, label = _columns(tables[0].schema.names, spec, reading)
    for table in tables[1:]:
        if not {image, label} <= set(table.schema.names):
            raise UserError(
                f"expected columns {image} and {label} in {table.where} too, got {_few(table.schema.names)}"
            )
    names = [f"row-{i:06d}" for i in range(_count(tables, spec))]
    rows = wanted.rows(names, spec)
    if not rows:
        raise UserError(f"expected at least one image, got an empty selection of {spec}")
    labels: list[pa.Array] = []
    packed = sum(Path(table.where).stat().st_size for table in tables)
    pixels = of_one_size(_rows(tables, image, label, rows, labels), spec, reading, packed)
    ids = tuple(names[i] for i in rows)
    column = pa.chunked_array(labels)
    if is_of_names(column.type) and (classes := _names_in(tables, label, spec)):
        return Images(ids, pixels, labels_by_name(column, classes, spec), classes, spec)
    found = labels_of_column(column, spec, label)
    return Images(ids, pixels, found, _class_names(tables[0].schema, label, features), spec)


def _names_in(tables: Sequence[RowsOfImages], label: str, spec: str) -> tuple[str, ...]:
    """The names of the classes in all rows, so that a label does not depend on which rows are read; none where all of
    them are digits, which may be names or numbers."""
    found: set[str] = set()
    for table in tables:
        for batch in table.batches([label], table.rows):
            if not is_of_names(batch[label].type):
                raise UserError(f"expected text in the column {label} of {table.where} too, got {batch[label].type}")
            found.update(name for name in batch[label].unique().to_pylist() if name is not None)
    return () if all(map(is_whole, found)) else class_names_of(found, spec)


def _count(tables: Sequence[RowsOfImages], spec: str) -> int:
    """The rows of all tables. Raises UserError beyond the limit: rows without content cost a file nothing."""
    found = sum(table.rows for table in tables)
    limits.check_limit_of(spec, found, limits.ROWS, "rows")
    return found


def _columns(names: list[str], spec: str, reading: Reading) -> tuple[str, str]:
    """The columns of the images and of the labels."""
    for option, given in (("--image-column", reading.image_column), ("--label-column", reading.label_column)):
        if given is not None and given not in names:
            raise UserError(
                f"expected {option} among the columns of {spec}, got '{given}' ({nearest(given, names[:50])})"
            )
    image = reading.image_column or next((name for name in _IMAGES if name in names), None)
    label = reading.label_column or next((name for name in _LABELS if name in names), None)
    if image is None or label is None:
        lacking = [o for o, found in (("--image-column", image), ("--label-column", label)) if found is None]
        raise UserError(
            f"expected columns img (or image) and label in {spec}, got {_few(names)}; name the one that is meant with "
            f"{' and '.join(lacking)}"
        )
    return image, label


def _rows(
    tables: Sequence[RowsOfImages], image: str, label: str, rows: Sequence[int], labels: list[pa.Array]
) -> Iterator[tuple[str, bytes]]:
    """The images of some rows, counted through all tables, with their names; their labels are added to
    `labels`."""
    at, ends, left = 0, 0, set(rows)
    for table in tables:
        begins, ends = ends, ends + table.rows
        if left.isdisjoint(range(begins, ends)):
            at = ends
            continue
        for batch in table.batches([image, label], max(left) + 1 - begins):
            own = [i for i in range(len(batch)) if at + i in left]
            labels.append(batch[label].take(pa.array(own, pa.int64())))
            for i in own:
                name = f"row {at + i - begins} of {table.where}"
                yield name, _bytes(batch[image][i].as_py(), image, name)
            at += len(batch)
            left.difference_update(range(at - len(batch), at))
            if not left:
                return


def _bytes(cell: Any, column: str, name: str) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes) or not content:
        raise UserError(f"expected an encoded image in {column}.bytes of {name}, got none")
    return content


def _class_names(schema: pa.Schema, label: str, features: object) -> tuple[str, ...]:
    """The names that Hugging Face's datasets leaves in the schema or beside it, if it does."""
    with suppress(KeyError, ValueError, TypeError, RecursionError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    feature = features.get(label) if isinstance(features, dict) else None
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", ... {len(names)} in all" if len(names) > 20 else "")
