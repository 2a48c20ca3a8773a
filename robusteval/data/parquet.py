"""Parquet files of encoded images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.columns import RowsOfImages, images_of_tables
from robusteval.data.wanted import Wanted


def read_parquet(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """One file, as images_of_tables reads it."""
    with parquet_table(spec) as table:
        return images_of_tables([table], spec, wanted, reading)


@contextmanager
def parquet_table(path: str) -> Iterator[RowsOfImages]:
    """A file, open. Raises UserError, also for what is found wrong while it is read."""
    limits.check_file(path, limits.FILE_BYTES, "a parquet file")
    try:
        with pa.OSFile(path) as source:
            yield _table(pq.ParquetFile(source), path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises all kinds for a file that is not its own
        raise UserError(f"expected a parquet file in {path}, got: {first_line(error)}") from error


def _table(file: pq.ParquetFile, path: str) -> RowsOfImages:
    def batches(columns: list[str], most: int) -> Iterator[pa.RecordBatch]:
        size = _batch_size(file, most)
        yield from file.iter_batches(batch_size=size, columns=list(dict.fromkeys(columns)))

    return RowsOfImages(path, file.schema_arrow, file.metadata.num_rows, batches)


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
