"""Files written whole or not at all, and what is said where the system lets that fail. Imports no torch."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robusteval.core.errors import UserError, first_line


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


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, then rename: a reader sees the whole file or none, also after a loss of power. Raises
    NotWrittenError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # never through a link of that name
        try:
            write(temporary)
            _flush(temporary, os.O_RDWR)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(path.parent, os.O_RDONLY)


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
