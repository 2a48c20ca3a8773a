"""One process at a time in a run: a lock on a file in it, which the system takes away with its owner. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robusteval.core.errors import UserError
from robusteval.results.atomic import writing


class HeldError(UserError):
    """Another process holds the folder."""


LOCK = ".lock"
"""The file in a run while an audit is at work in it."""

if sys.platform == "win32":
    import msvcrt

    def _take(opened: int) -> None:
        # Beyond what is in it, so that others can read that.
        os.lseek(opened, 1000, os.SEEK_SET)
        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        os.lseek(opened, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(opened: int) -> None:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


_OPENED: set[int] = set()
"""The descriptors by which this process holds folders."""


def _leave_to_parent() -> None:
    """In a worker that was forked: else it would hold what its parent holds, also when that is gone."""
    for opened in _OPENED:
        os.close(opened)
    _OPENED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made, for this caller alone; however its process ends, and whatever workers it leaves,
    the next one gets it. Raises HeldError where another has it, and NotWrittenError."""
    path, made = folder / LOCK, not folder.exists()
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        opened = _held(path)
    owner = os.getpid()
    _OPENED.add(opened)
    try:
        with writing(path):
            os.ftruncate(opened, 0)
            os.write(opened, str(owner).encode())
        yield
    finally:
        # A worker that was forked and comes out of this has nothing to give back.
        if os.getpid() == owner:
            _OPENED.remove(opened)
            # Before it is let go, so that nobody holds a file of that name that is gone. Windows keeps it until then.
            with suppress(OSError):
                path.unlink()
                if made:
                    # Only where nothing came into it: what was asked for was refused.
                    folder.rmdir()
            os.close(opened)


def _held(path: Path) -> int:
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            _take(opened)
        except (BlockingIOError, PermissionError):
            owner = os.read(opened, 20).decode("ascii", "replace") or "unknown"
            os.close(opened)
            raise HeldError(
                f"expected {path.parent} for this audit alone, got another that is at work in it (process {owner}); "
                "wait until it ends, or give another --out"
            ) from None
        except BaseException:
            os.close(opened)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened), os.stat(path)):
                return opened
        # Its last owner removed it between the two.
        os.close(opened)
