"""The files of a run: tables as parquet, images as safetensors, each written whole and read with care. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save

from robusteval.core.errors import UserError, first_line
from robusteval.results.atomic import Landing, atomically
from robusteval.results.records import Cost

Arrays = dict[str, np.ndarray[Any, Any]]


def write_frame(
    path: Path,
    frame: pd.DataFrame,
    cost: Cost | None = None,
    beside: Mapping[str, str] | None = None,
    landing: Landing | None = None,
) -> None:
    """A data frame as parquet, with what its computation cost in the file's metadata, and the checksums, by path in the
    run, of the other files of its shard, so that none of them goes missing unnoticed."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    own = {b"robusteval": (cost or Cost()).model_dump_json().encode()}
    if beside is not None:
        own[b"beside"] = json.dumps(dict(beside)).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    atomically(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True), landing)


def write_frames(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """A table as parquet, of data frames of the same columns and types, at least one, which never are in memory
    together."""

    def write(temporary: Path) -> None:
        first = pa.Table.from_pandas(next(frames), preserve_index=False)
        with pq.ParquetWriter(temporary, first.schema, write_page_checksum=True) as writer:
            writer.write_table(first)
            for frame in frames:
                writer.write_table(pa.Table.from_pandas(frame, schema=first.schema, preserve_index=False))

    atomically(path, write)


def read_frames(path: Path) -> Iterator[pd.DataFrame]:
    """The rows of a table in their order, in the pieces that it was written in. Raises UserError."""
    with read_safely(path, "a readable table"):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            yield _as_frame(file.read_row_group(group))


def read_frame(path: Path) -> pd.DataFrame:
    """A part or a table: its columns as every reader of parquet sees them. Raises UserError."""
    with read_safely(path, "a readable table"):
        return _as_frame(pq.read_table(path, page_checksum_verification=True))


def _as_frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    # pandas hides a column that is said to be an index; others do not.
    if list(frame.columns) != table.column_names or not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError(f"an index among the columns {', '.join(table.column_names)}")
    return frame


@contextmanager
def read_safely(path: Path, wanted: str) -> Iterator[None]:
    """Raises UserError: pyarrow, pandas and safetensors raise all kinds for what is damaged or made to look so."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(f"expected {wanted} in {path}, got: {first_line(error)}") from error


def read_cost(path: Path) -> Cost:
    """What a part cost; nothing where nothing is noted. Raises UserError."""
    with read_safely(path, "a readable cost"):
        return Cost.model_validate_json((pq.read_schema(path).metadata or {}).get(b"robusteval", b"{}"))


def read_beside(path: Path) -> dict[str, str] | None:
    """The checksums, by path, of the other files of a part's shard; None where none are noted. Raises UserError."""
    with read_safely(path, "readable checksums"):
        noted = (pq.read_schema(path).metadata or {}).get(b"beside")
        return None if noted is None else {str(name): str(sha) for name, sha in json.loads(noted).items()}


def write_arrays(path: Path, arrays: Arrays, landing: Landing | None = None) -> None:
    contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    # By Python, whose errors say why.
    atomically(path, lambda temporary: temporary.write_bytes(save(contiguous)), landing)


def read_arrays(path: Path, names: Collection[str] | None = None) -> Arrays:
    """The arrays in a file by their names, numbers all; of some names alone, those that are there. Raises UserError."""
    with read_safely(path, "readable images"), safe_open(path, framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys() if names is None or key in names}  # noqa: SIM118


def array_names(path: Path) -> list[str]:
    """The names of the arrays in a file, without reading these. Raises UserError."""
    with read_safely(path, "readable images"), safe_open(path, framework="numpy") as file:
        return list(file.keys())


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
