"""How much of a file that is not trusted is read. One opt-out for a user who means it: ROBUSTEVAL_NO_LIMITS=1."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robusteval.core.errors import UserError

OPT_OUT = "ROBUSTEVAL_NO_LIMITS"
"""The environment variable that lifts every limit, where it is 1."""
FILE_BYTES = 8 * 2**30
"""Of a file of arrays or weights."""
IMAGE_BYTES = 64 * 2**20
"""Of an encoded image."""
TEXT_BYTES = 16 * 2**20
"""Of a file of text: a protocol, names of classes, a manifest."""
MANIFEST_BYTES = 256 * 2**20
"""Of a manifest or a leaderboard, with the digests of all its files."""
CARD_BYTES = 2 * 2**20
"""Of a model card: the settings of a training and names of classes."""
BOARD_TEXT = 1000
"""Characters of a text of a leaderboard that is drawn: the name of a model, the title of a column."""
IMAGE_PIXELS = 50_000_000
"""Height times width of an image."""
IMAGE_SCANS = 100
"""Passes of a JPEG over its pixels; a progressive one has about 10."""
IMAGE_BLOCKS = 300_000
"""Chunks of a PNG, or extensions, frames and pieces of a GIF: those of 255 bytes in IMAGE_BYTES."""
ARRAY_NUMBERS = 2**30
"""Of an array that is read into memory."""
ALL_NUMBERS = 2**34
"""Of all the images of a data set together, which lie in a temporary file where they are many."""
EXPANSION = 200
"""Numbers of all images together for each byte that they are read from, where they are more than ARRAY_NUMBERS."""
CHUNK_BYTES = 2**30
"""Of a column of a parquet row group, unpacked."""
ROWS = 5_000_000
"""Of all the tables of a data set."""
FOLDER_ENTRIES = 2_000_000
"""Files and folders in an image folder, at any depth."""
FOLDER_DEPTH = 32
"""Folders in one another in an image folder."""
CHECKPOINT_KEYS = 20_000
"""Entries of a state dict."""


def lifted() -> bool:
    """Whether the user wants no limits."""
    return os.environ.get(OPT_OUT) == "1"


def check_limit_of(where: object, found: int, most: int, unit: str) -> None:
    """Raises UserError that names the file, the limit and the opt-out where more than `most` is `found`."""
    if found > most and not lifted():
        raise UserError(
            f"expected at most {most:,} {unit} in {where}, got {found:,}; if that is meant, set {OPT_OUT}=1"
        )


def check_all_numbers(where: object, found: int, length: int) -> None:
    """Raises UserError where the images of a data set, read from so many bytes, are more numbers than the limits on all
    of them."""
    most = min(ALL_NUMBERS, max(ARRAY_NUMBERS, EXPANSION * length))
    check_limit_of(where, found, most, "numbers in the images (fewer of them with --limit)")


def check_file(path: str | Path, most: int, what: str = "a file") -> int:
    """The bytes of a regular file, at most so many. Raises UserError for what is none (a folder, a FIFO, a device, a
    socket, a circle of links), before it is opened."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"expected {what}, got {path}: {problem}") from error
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise UserError(f"expected {what}, got {path}, which is {kind}")
    check_limit_of(path, facts.st_size, most, "bytes")
    return facts.st_size


def read_limited(path: str | Path, most: int, what: str = "a file") -> bytes:
    """The content of a regular file of at most so many bytes. Raises UserError."""
    check_file(path, most, what)
    try:
        with open(path, "rb") as file:
            content = file.read() if lifted() else file.read(most + 1)
    except OSError as error:
        raise UserError(f"expected {what}, got {path}: {error.strerror}") from error
    check_limit_of(path, len(content), most, "bytes")
    return content


@contextmanager
def in_memory(where: object) -> Iterator[None]:
    """Raises UserError where what is read does not fit into the memory that there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's allocator has no error of its own.
        if isinstance(error, RuntimeError) and "not enough memory" not in str(error) and "alloc" not in str(error):
            raise
        raise UserError(f"expected {where} to fit into memory, got none left; read fewer with --limit") from error


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
