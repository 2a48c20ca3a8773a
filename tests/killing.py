"""An action in a forked child that dies, at a time or at a change of a file, or whose disk is full."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Action = Callable[[], int | None]
_NEED_ROOM = {"open", "os.fsync", "os.mkdir", "os.rename", "os.write"}
_CHANGES = {*_NEED_ROOM, "os.remove", "os.rmdir", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ended:
    """How an action ended. code: what it returned (0 for None), 1 after an exception, below zero the signal that ended
    it; output: stdout and stderr, with the traceback of an exception; seconds: how long it took."""

    code: int
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def refused(self) -> bool:
        """Whether it ended in one line, as a command does whose disk is full."""
        errors = [line for line in self.output.splitlines() if line.startswith("error:")]
        return self.code == 2 and len(errors) == 1 and "Traceback" not in self.output


def killed_after(action: Action, folder: Path, seconds: float) -> Ended:
    """The action, killed after so many seconds of it; it ends by itself where it needs fewer. What it changes lies in
    `folder`."""
    return _ended(action, folder, lambda: None, seconds)


def killed_at(action: Action, folder: Path, change: int, later: float = 0) -> Ended:
    """The action, killed before its change of that number: a file in `folder` opened for writing, renamed, removed or
    cut, a folder made or removed, anything flushed to the disk or written by os.write; or so many seconds later."""

    def die() -> None:
        if later:
            threading.Timer(later, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    return _ended(action, folder, lambda: _at_change(folder, _CHANGES, lambda n: n == change, die))


def full_at(action: Action, folder: Path, change: int, stays: bool) -> Ended:
    """The action on a disk without room for the change of that number of those that need some, and for those after it
    if it `stays` full."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def due(number: int) -> bool:
        return number == change or (stays and number > change)

    return _ended(action, folder, lambda: _at_change(folder, _NEED_ROOM, due, fail))


def full_after(action: Action, folder: Path, size: int) -> Ended:
    """The action where the system lets no file grow beyond so many bytes."""
    return _ended(action, folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def undisturbed(action: Action, folder: Path) -> Ended:
    return _ended(action, folder, lambda: None)


def _ended(action: Action, folder: Path, prepare: Callable[[], None], seconds: float = 120) -> Ended:
    """Run the action in a child; its temporary files lie in a folder that is removed afterwards."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="killing", ignore_cleanup_errors=True) as scratch:
        pid = os.fork()
        if not pid:
            os.close(reader)
            _child(action, writer, scratch, prepare)
        os.close(writer)
        said = _read(reader, pid, began + seconds)
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(code, said.decode(errors="replace"), time.monotonic() - began)


def _read(reader: int, pid: int, until: float) -> bytes:
    """What the child says until it ends, or is killed at that time."""
    said = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + 60
        elif more := os.read(reader, 2**16):
            said += more
        else:
            return said


def _child(action: Action, writer: int, scratch: str, prepare: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        # What pytest put in their place ends in the parent.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        os.environ["COLUMNS"] = "200"
        tempfile.tempdir = scratch
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        prepare()
        code = action() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _at_change(folder: Path, counted: set[str], due: Callable[[int], bool], act: Callable[[], None]) -> None:
    """In this process act before each change whose number is due, of the kinds that are counted."""
    root, count = os.path.realpath(folder) + os.sep, 0

    def happens(event: str) -> None:
        nonlocal count
        count += event in counted
        if event in counted and due(count):
            act()

    def inside(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(os.fspath(path)).startswith(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            # By os.open the mode is none.
            if (set(mode) & set("wax+") if isinstance(mode, str) else (flags or 0) & _WRITES) and inside(path):
                happens(event)
        elif event == "os.mkdir" and os.path.isdir(arguments[0]):
            pass  # it is there already, and nothing changes
        elif event in _CHANGES and (inside(arguments[0]) or isinstance(arguments[0], int)):
            happens(event)

    fsync, write = os.fsync, os.write

    def flushed(fd: Any) -> None:
        happens("os.fsync")
        fsync(fd)

    def written(file: int, content: Any) -> int:
        happens("os.write")
        return write(file, content)

    os.fsync, os.write = flushed, written
    sys.addaudithook(hook)
