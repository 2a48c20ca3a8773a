"""Hugging Face-style parquet files: encoded images, labels, and the names of the classes in the schema."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.decode import decode, of_one_size
from robusteval.data.labels import labels_of_column


def read_parquet(spec: str, limit: int | None) -> Images:
    """Rows with a struct `img` or `image` of encoded `bytes`, and an integer `label`."""
    try:
        file = pq.ParquetFile(spec)
        schema = file.schema_arrow
        column = next((c for c in ("img", "image") if c in schema.names), None)
        if column is None or "label" not in schema.names:
            raise UserError(f"expected columns img (or image) and label in {spec}, got {', '.join(schema.names)}")
        batches, found = [], 0
        for batch in file.iter_batches(batch_size=min(limit or 1024, 1024), columns=[column, "label"]):
            batches.append(batch)
            found += len(batch)
            if limit is not None and found >= limit:
                break
        rows = pa.Table.from_batches(batches, pa.schema([schema.field(column), schema.field("label")]))[:limit]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"expected a parquet file in {spec}, got: {str(error).splitlines()[0]}") from error
    if not len(rows):
        raise UserError(f"expected at least one image, got an empty selection of {spec}")
    labels = labels_of_column(rows["label"], spec)
    names = [f"row {i} of {spec}" for i in range(len(rows))]
    decoded = [
        decode(_bytes(cell, column, name), name) for cell, name in zip(rows[column].to_pylist(), names, strict=True)
    ]
    ids = tuple(f"row-{i:06d}" for i in range(len(rows)))
    return Images(ids, of_one_size(decoded, names, spec), labels, _class_names(schema.metadata or {}), spec)


def _bytes(cell: Any, column: str, name: str) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes) or not content:
        raise UserError(f"expected an encoded image in {column}.bytes of {name}, got none")
    return content


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """The names that Hugging Face's datasets leaves in the schema, if it does."""
    try:
        return tuple(map(str, json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]))
    except (KeyError, ValueError, TypeError):
        return ()
