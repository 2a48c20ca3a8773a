"""Work of one core spread over several, by forked processes where the system forks safely."""

from __future__ import annotations

import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST = 8
"""Processes, whatever the cores: each may come to hold a copy of what it touches."""
_NUMBER = struct.Struct("I")
_MANY = 1000
"""Numbers that fit a pipe; of more items several in a row have one."""


def on_all_cores(compute: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R]]:
    """(i, compute(items[i])) for each item, as soon as it is there, whichever is first.

    By as many processes as this one may have cores, each with a copy of what is here now, so that only the results are
    pickled; what `compute` changes stays there. One after another in this process where that is one, and where a fork
    is not safe (anywhere but on Linux). What a process leaves that dies or stops with an error is computed here, so an
    error of `compute` is raised as it is.
    """
    count = min(_cores(), len(items))
    left = set(range(len(items)))
    if count > 1:
        for i, result in _apart(compute, items, count):
            left.remove(i)
            yield i, result
    for i in sorted(left):
        yield i, compute(items[i])


def _cores() -> int:
    return min(MOST, len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1


def _apart(compute: Callable[[T], R], items: Sequence[T], count: int) -> Iterator[tuple[int, R]]:
    row = -(-len(items) // _MANY)
    numbers, written = os.pipe()
    os.write(written, b"".join(map(_NUMBER.pack, range(0, len(items), row))))
    os.close(written)
    workers: dict[Connection, int] = {}
    try:
        for _ in range(count):
            reader, writer = Pipe(duplex=False)
            with warnings.catch_warnings():
                # Of threads, which a fork does not copy: no worker waits for one.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = _fork()
            if not pid:
                # Else a worker that tells its result would never learn that nobody is left to hear it.
                for other in (reader, *workers):
                    other.close()
                _work(compute, items, row, numbers, writer)
            writer.close()
            workers[reader] = pid
        while workers:
            told: list[Any] = wait([*workers])
            for reader in told:
                try:
                    found = reader.recv()
                except (EOFError, OSError):
                    reader.close()
                    os.waitpid(workers.pop(reader), 0)
                else:
                    yield found
    finally:
        os.close(numbers)
        for reader, pid in workers.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            reader.close()


def _fork() -> int:
    if sys.platform == "linux":
        return os.fork()
    raise NotImplementedError("forks elsewhere are not safe")


def _work(compute: Callable[[T], R], items: Sequence[T], row: int, numbers: int, writer: Connection) -> NoReturn:
    """Whoever is free takes the next number. Of what this process inherited nothing is flushed or told."""
    try:
        while number := os.read(numbers, _NUMBER.size):
            (first,) = _NUMBER.unpack(number)
            for i in range(first, min(first + row, len(items))):
                writer.send((i, compute(items[i])))
    finally:
        os._exit(0)
