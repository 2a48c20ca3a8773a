"""Files written whole or not at all, and what is said where the system lets that fail. Imports no torch."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from robusteval.core.errors import UserError, first_line

EVERY = 1.0
"""Seconds of computed shards, at most, that a loss of power takes besides the one in work."""
_AT_ONCE = 8
"""Files that are brought to the disk at the same time."""


class NotWrittenError(UserError, OSError):
    """A full disk, a quota, a directory that is read-only or not ours: no method's failure. What was written stays."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises NotWrittenError, in one line that says how to go on, where the system lets a change of `path` fail."""
    try:
        yield
    except NotWrittenError:
        raise
    except OSError as error:
        raise NotWrittenError(
            f"expected to write {path}, got: {error.strerror or first_line(error)}; what was computed is kept, and the "
            "same command continues when that is mended"
        ) from error


def atomically(path: Path, write: Callable[[Path], object], landing: Landing | None = None) -> None:
    """Write beside `path`, then rename: a reader sees the whole file or none, also after a loss of power; where it is
    for `landing` to bring it to the disk, after a loss of power only once that has. Raises NotWrittenError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # never through a link of that name
        try:
            write(temporary)
            if landing is None:
                _flush(temporary, os.O_RDWR)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if landing is None:
            _flush_folder(path.parent)
        else:
            landing.add(path)
    tell(path)


_TOLD: dict[Path, Callable[[Path], None]] = {}


@contextmanager
def following(folder: Path, told: Callable[[Path], None]) -> Iterator[None]:
    """`told` is called with each file below a folder that this process gives its name, or removes."""
    _TOLD[folder] = told
    try:
        yield
    finally:
        del _TOLD[folder]


def tell(path: Path) -> None:
    """Tell who follows its folder that a file is there, or is there no more."""
    for folder, told in _TOLD.items():
        if path.is_relative_to(folder):
            told(path)


class Landing:
    """Files that have their names and are to be brought to the disk, many at once, which costs a file system hardly
    more than one. The end of the process takes none of them; a loss of power may take or damage those that have not
    landed, which a checksum elsewhere has to show."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._landed = -math.inf

    def add(self, path: Path) -> None:
        self._files.append(path)

    def land(self, every: float = 0.0) -> None:
        """Unless the last time is less than so many seconds ago. Raises NotWrittenError."""
        if time.monotonic() - self._landed < every:
            return
        files, self._files = self._files, []
        if files:
            with ThreadPoolExecutor(_AT_ONCE) as several:
                list(several.map(_land, files))
            for folder in {path.parent for path in files}:
                with writing(folder):
                    _flush_folder(folder)
        self._landed = time.monotonic()


def _land(path: Path) -> None:
    with writing(path), suppress(FileNotFoundError):  # removed since
        _flush(path, os.O_RDWR)


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    """Onto the disk, as far as the file system can: some know nothing of it."""
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)
