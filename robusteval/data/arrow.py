"""Arrow streams of encoded images and labels, as datasets' save_to_disk writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.data.columns import RowsOfImages

_FILE = b"ARROW1\0\0"
"""Before the stream, in a file that has an index behind it."""
_COMPRESSION = 3
"""The place of the compression among the fields of a record batch, as Arrow's Message.fbs has them."""
_DATA = 1
"""The place of the record batch among those of a dictionary."""
_HEADER = 2
"""The place of the header among those of a message."""


@contextmanager
def arrow_table(path: str) -> Iterator[RowsOfImages]:
    """A file, open; its batches are views of it. Raises UserError, also for what is found wrong while it is read, and
    where it is compressed: what that unpacks to is not known before."""
    limits.check_file(path, limits.FILE_BYTES, "an Arrow file")
    try:
        with pa.memory_map(path) as source:
            start = len(_FILE) if source.size() >= len(_FILE) and source.read(len(_FILE)) == _FILE else 0
            rows = _checked(source, start, path)
            source.seek(start)
            schema = pa.ipc.open_stream(source).schema
            yield RowsOfImages(path, schema, rows, lambda columns, _: _batches(source, start, columns))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises all kinds for a file that is not its own
        raise UserError(f"expected an Arrow stream in {path}, got: {first_line(error)}") from error


def _batches(source: pa.NativeFile, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    source.seek(start)
    for batch in pa.ipc.open_stream(source):
        chosen = batch.select(list(dict.fromkeys(columns)))
        # A file may point beyond its own buffers.
        chosen.validate(full=True)
        yield chosen


def _checked(source: pa.NativeFile, start: int, path: str) -> int:
    """The rows of all batches. Raises UserError where one is compressed."""
    source.seek(start)
    for message in pa.ipc.MessageReader.open_stream(source):
        if _is_compressed(message.metadata.to_pybytes(), message.type):
            raise UserError(f"expected an Arrow file without compression in {path}, got one; save it as .parquet")
    source.seek(start)
    return sum(batch.num_rows for batch in pa.ipc.open_stream(source))


def _is_compressed(metadata: bytes, kind: str) -> bool:
    """Whether the record batch that a message describes names a codec: by its flatbuffer, of which pyarrow shows
    nothing."""
    if kind not in ("record batch", "dictionary"):
        return False
    batch = _table(metadata, _table(metadata, 0, None), _HEADER)
    if kind == "dictionary":
        batch = _table(metadata, batch, _DATA)
    return _field(metadata, batch, _COMPRESSION) is not None


def _table(buffer: bytes, table: int, place: int | None) -> int:
    """Where the table begins that a field of another points at; without a place, the table of the whole buffer."""
    at = 0 if place is None else _field(buffer, table, place)
    if at is None:
        raise ValueError("a message without content")
    offset: int = struct.unpack_from("<I", buffer, at)[0]
    return at + offset


def _field(buffer: bytes, table: int, place: int) -> int | None:
    """Where a field of a table begins, None where it has none."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size: int = struct.unpack_from("<H", buffer, vtable)[0]
    at = 4 + 2 * place
    offset: int = struct.unpack_from("<H", buffer, vtable + at)[0] if at + 2 <= size else 0
    return table + offset if offset else None
