"""Hugging Face-style parquet files: encoded images, labels, and the names of the classes in the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.data.decode import decode, of_one_size
from robusteval.data.labels import labels_of_column


def read_parquet(spec: str, limit: int | None) -> Images:
    """Rows with a struct `img` or `image` of encoded `bytes`, and an integer `label`."""
    limits.check_file(spec, limits.FILE_BYTES, "a parquet file")
    try:
        with pa.OSFile(spec) as source:
            return _read(pq.ParquetFile(source), spec, limit)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises all kinds for a file that is not its own
        raise UserError(f"expected a parquet file in {spec}, got: {first_line(error)}") from error


def _read(file: pq.ParquetFile, spec: str, limit: int | None) -> Images:
    schema = file.schema_arrow
    column = next((c for c in ("img", "image") if c in schema.names), None)
    if column is None or "label" not in schema.names:
        raise UserError(f"expected columns img (or image) and label in {spec}, got {', '.join(schema.names)}")
    count = file.metadata.num_rows if limit is None else min(limit, file.metadata.num_rows)
    if count < 1:
        raise UserError(f"expected at least one image, got an empty selection of {spec}")
    limits.check_all_numbers(spec, count)
    names = [f"row {i} of {spec}" for i in range(count)]
    labels: list[pa.ChunkedArray] = []
    pixels = of_one_size(_images(file, column, names, labels), names, spec)
    ids = tuple(f"row-{i:06d}" for i in range(count))
    found = labels_of_column(pa.chunked_array(labels), spec)
    return Images(ids, pixels, found, _class_names(schema.metadata or {}), spec)


def _images(file: pq.ParquetFile, column: str, names: Sequence[str], labels: list[pa.Array]) -> Iterator[NDArray[Any]]:
    """The first images, one for each of the names, decoded; their labels are added to `labels`."""
    left = list(reversed(names))
    for batch in file.iter_batches(batch_size=_batch_size(file, len(names)), columns=[column, "label"]):
        rows = batch[: len(left)]
        labels.append(rows["label"])
        for cell in rows[column]:
            yield decode(_bytes(cell.as_py(), column, left[-1]), left.pop())
        if not left:
            return


def _batch_size(file: pq.ParquetFile, count: int) -> int:
    """Rows that are unpacked at a time. A few bytes can stand for the same large image in every row: with the largest
    row group in each of them, a batch would still hold no more than the limit. Raises UserError where one row group is
    beyond the limit itself. What is noted of a single column is not asked for: pyarrow ends the process where that is
    damaged."""
    metadata, largest = file.metadata, 1
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        largest = max(largest, group.total_byte_size)
    limits.check_limit_of("a row group, unpacked,", largest, limits.CHUNK_BYTES, "bytes")
    return max(1, min(count, 1024, limits.CHUNK_BYTES // largest))


def _bytes(cell: Any, column: str, name: str) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes) or not content:
        raise UserError(f"expected an encoded image in {column}.bytes of {name}, got none")
    return content


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """The names that Hugging Face's datasets leaves in the schema, if it does."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
