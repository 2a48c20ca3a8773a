"""An action in a child process of its own, watched: what it executes, where it writes, how long it takes, how much
memory it wants. For files that are not trusted."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXECUTES = {"os.exec", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen"}
_EXECUTES |= {"socket.bind", "socket.connect", "socket.getaddrinfo", "urllib.Request"}
_CHANGES = {"os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
_CHANGES |= {"os.truncate", "os.utime"}
_BOTH_PATHS = {"os.link", "os.rename"}
_SECOND_PATH = {"os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """What an action did. code: what it returned (0 for None), 1 after an exception, -9 where it was killed; output:
    stdout and stderr, with the traceback of an exception; executed: programs started and connections made; outside:
    paths that were written, made, renamed or removed and are not below `writable`; hung: killed at the time limit."""

    code: int
    output: str
    executed: tuple[str, ...]
    outside: tuple[str, ...]
    seconds: float
    hung: bool

    @property
    def clean(self) -> bool:
        """Whether nothing was executed or written outside, without a traceback, in time."""
        return not (self.executed or self.outside or self.hung or "Traceback" in self.output) and self.code >= 0


Action = Callable[[], int | None]


def confined(action: Action, writable: Path, seconds: float = 20, megabytes: int = 3000) -> Outcome:
    """Run `action` in a forked child that may use so many seconds, and megabytes beyond those in use.

    Python's own audit events say what is executed and written; what native code writes is seen where it changes a file
    beside `writable` (in the folder that holds it, at any depth).
    """
    return confined_each({"": action}, writable, seconds, megabytes)[""]


def confined_each(
    actions: Mapping[str, Action], writable: Path, seconds: float = 20, megabytes: int = 3000
) -> dict[str, Outcome]:
    """As `confined`, each action by its name. They run one after another in one child, each with its own output, its
    own events and its own seconds; where one ends or hangs the child, the rest goes on in another."""
    found: dict[str, Outcome] = {}
    while left := [name for name in actions if name not in found]:
        with tempfile.TemporaryDirectory(prefix="confined") as folder:
            scratch, before = Path(folder), _beside(writable)
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if not pid:
                _child([actions[name] for name in left], writable, scratch, megabytes)
            status, hung, spent = _watched(pid, scratch, seconds)
            known: set[str] = set()
            for i, name in enumerate(left):
                if not (scratch / f"{i}.output").exists():
                    break
                ended = scratch / f"{i}.ended"
                if ended.exists():
                    code, took, changed = json.loads(ended.read_text())
                else:
                    code, took = os.waitstatus_to_exitcode(status), spent
                    changed = [path for path in _changed(before, _beside(writable)) if path not in known]
                known |= set(changed)
                found[name] = _outcome(scratch, i, code, changed, took, hung and not ended.exists())
            if left[0] not in found:
                raise RuntimeError(f"expected a child that begins, got one that ended with status {status}")
    return found


def _outcome(scratch: Path, i: int, code: int, changed: list[str], seconds: float, hung: bool) -> Outcome:
    output = (scratch / f"{i}.output").read_text(errors="replace")
    events = [line.split("\t", 1) for line in (scratch / f"{i}.events").read_text(errors="replace").splitlines()]
    outside = [path for kind, path in events if kind == "outside"]
    executed = tuple(what for kind, what in events if kind == "executed")
    return Outcome(code, output, executed, tuple(dict.fromkeys([*outside, *changed])), seconds, hung)


def _watched(pid: int, scratch: Path, seconds: float) -> tuple[int, bool, float]:
    """The status of the child, whether it had to be killed, and the seconds of its last action."""
    ended, since = 0, time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        now = time.monotonic()
        if done:
            return status, False, now - since
        if (scratch / f"{ended}.ended").exists():
            ended, since = ended + 1, now
        elif now > since + seconds:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], True, now - since
        else:
            time.sleep(0.002)


def _child(actions: list[Action], writable: Path, scratch: Path, megabytes: int) -> None:
    """The life of the child; never returns."""
    try:
        # What pytest put in their place ends in the parent.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        os.environ["COLUMNS"] = "200"
        tempfile.tempdir = str(scratch)
        sys.dont_write_bytecode = True
        most = _address_space() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        new = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        events = os.open(os.devnull, os.O_WRONLY)
        sys.addaudithook(_hook(events, (os.path.realpath(writable), os.path.realpath(scratch))))
        for i, action in enumerate(actions):
            for path, place in (((f"{i}.events", (events,))), (f"{i}.output", (1, 2))):
                file = os.open(scratch / path, new)
                for descriptor in place:
                    os.dup2(file, descriptor)
                os.close(file)
            before, began = _beside(writable), time.monotonic()
            code = _done(action)
            spent = time.monotonic() - began
            sys.stdout.flush()
            sys.stderr.flush()
            (scratch / "ended").write_text(json.dumps([code, spent, _changed(before, _beside(writable))]))
            os.rename(scratch / "ended", scratch / f"{i}.ended")
    finally:
        os._exit(1)


def _done(action: Action) -> int:
    """The exit code of an action; the traceback of an exception is printed."""
    try:
        return action() or 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _hook(events: int, allowed: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    def told(kind: str, what: object) -> None:
        text = repr(what)[:500] if not isinstance(what, str) else what.encode("unicode_escape").decode()
        os.write(events, f"{kind}\t{text}\n".encode())

    def written(path: object, of: object = -1) -> None:
        """`of`: the descriptor of the folder that a relative path starts from, -1 for the working one."""
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if isinstance(of, int) and of >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{of}"), os.fsdecode(path))
        # The name itself, not what it points at: a link is removed, not its end.
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        real = os.path.join(os.path.realpath(folder), name)
        if not any(real == root or real.startswith(root + os.sep) for root in allowed) and real != os.devnull:
            told("outside", real)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EXECUTES:
            told("executed", (event, *arguments[:2]))
        elif event == "open":
            path, mode, flags = arguments
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & _WRITES):
                written(os.path.realpath(path) if isinstance(path, str | bytes | os.PathLike) else path)
        elif event in _CHANGES:
            paths = arguments[1:2] if event in _SECOND_PATH else arguments[: 1 + (event in _BOTH_PATHS)]
            folders = (-1,) if event == "os.truncate" else arguments[-len(paths) :]
            for path, folder in zip(paths, folders, strict=True):
                written(path, folder)

    return hook


def _beside(writable: Path) -> dict[str, tuple[int, int, int]]:
    """The files around `writable` with what changes when they are written."""
    found: dict[str, tuple[int, int, int]] = {}
    for folder, folders, files in os.walk(writable.parent):
        folders[:] = [name for name in folders if Path(folder, name) != writable]
        for name in files:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            found[path] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return found


def _changed(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> list[str]:
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
