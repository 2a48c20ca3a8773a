"""Rows of the tables of a finished run: those of one stage, the columns that are asked for, a piece of the file at a
time. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robusteval.results.files import read_safely
from robusteval.results.run import Run
from robusteval.results.tables import TABLES

AT_ONCE = 1 << 16
"""Rows of a piece."""
FEW = 1 << 18
"""A table of at most so many cells is kept as it is, for all who ask for its rows one after the other."""
KEYS = ("method", "quantity")
"""Texts by which rows are chosen, of which there are few: they are read as numbers with a list of names."""

Only = Mapping[str, Collection[str]]
"""Of a column, the texts whose rows are chosen."""


def read_rows(
    run: Run,
    table: str,
    columns: Sequence[str] | None = None,
    stage: str | None = None,
    quantities: Collection[str] | None = None,
) -> pd.DataFrame:
    """The rows of a table in their order, with all columns or those that are asked for; of one stage and of some
    quantities alone where these are given. Of what else the file holds one piece is in memory at a time. Raises
    UserError where the run is not finished, or the file is not readable."""
    frame: pd.DataFrame
    with read_safely(run.table_file(table), "a readable table"):
        pieces = [*_pieces(run.table_file(table), columns, _only(stage, quantities))]
        frame = pa.Table.from_batches(pieces).to_pandas(split_blocks=True, self_destruct=True)
    return frame


def read_pieces(
    run: Run,
    table: str,
    columns: Sequence[str] | None = None,
    stage: str | None = None,
    quantities: Collection[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """The same rows some at a time, for those who need no more at once."""
    with read_safely(run.table_file(table), "a readable table"):
        yield from (piece.to_pandas() for piece in _pieces(run.table_file(table), columns, _only(stage, quantities)))


def _only(stage: str | None, quantities: Collection[str] | None) -> Only:
    chosen = {"method": None if stage is None else [stage], "quantity": quantities}
    return {key: texts for key, texts in chosen.items() if texts is not None}


def _pieces(path: Path, columns: Sequence[str] | None, only: Only) -> Iterator[pa.RecordBatch]:
    """The chosen rows, at least one piece, if an empty one."""
    status = path.stat()
    kept = _kept(path, status.st_ino, status.st_mtime_ns, status.st_size)
    schema = pq.read_schema(path) if kept is None else kept.schema
    names = list(schema.names if columns is None else columns)
    plain = pa.schema([pa.field(name, _plain(schema.field(name).type)) for name in names])
    yield pa.RecordBatch.from_pylist([], plain)
    read = list(dict.fromkeys([*names, *only]))
    for piece in _read(path, read, only) if kept is None else kept.select(read).to_batches():
        for key, texts in only.items():
            piece = piece.filter(_is_one_of(piece.column(key), texts))
        if piece.num_rows:
            yield piece.select(names).cast(plain)


def _read(path: Path, columns: Sequence[str], only: Only) -> Iterator[pa.RecordBatch]:
    """The groups of rows that may hold a chosen one, piece by piece."""
    with _opened(path) as file:
        groups = [i for i in range(file.num_row_groups) if _may_hold(file.metadata.row_group(i), only)]
        yield from file.iter_batches(AT_ONCE, groups, columns) if groups else ()


def _opened(path: Path) -> pq.ParquetFile:
    keys = [key for key in KEYS if key in pq.read_schema(path).names]
    return pq.ParquetFile(path, read_dictionary=keys, page_checksum_verification=True)


def _may_hold(group: pq.RowGroupMetaData, only: Only) -> bool:
    """Whether the texts asked for lie between the first and the last of a group, where it says these."""
    for i in range(group.num_columns):
        column = group.column(i)
        said = column.statistics if column.path_in_schema in only else None
        if said is not None and said.has_min_max:
            texts = only[column.path_in_schema]
            if not any(said.min <= text <= said.max for text in texts):
                return False
    return True


@lru_cache(maxsize=2 * len(TABLES))
def _kept(path: Path, *version: int) -> pa.Table | None:
    """A table of few cells, as long as its file is the same."""
    with _opened(path) as file:
        found = file.metadata
        return file.read() if found.num_rows * found.num_columns <= FEW else None


def _is_one_of(column: pa.Array, texts: Collection[str]) -> pa.Array:
    found = pc.is_in(column.dictionary, value_set=pa.array(list(texts), column.dictionary.type))
    return pc.take(found, column.indices)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
