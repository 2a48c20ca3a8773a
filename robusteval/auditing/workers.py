"""The engine of several processes on one machine (crew.py).

Processes are spawned, for threads and a fork do not mix. What goes to them and comes back is pickled; this process
alone reads and writes the run.
"""

from __future__ import annotations

import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from robusteval.auditing.crew import Crew, Said, Worker
from robusteval.auditing.engines import Work
from robusteval.auditing.stages.base import Context, Shard
from robusteval.auditing.worker import serve


@dataclass(eq=False, kw_only=True)
class _Process(Worker):
    process: SpawnProcess
    connection: Connection


class Workers(Crew[_Process]):
    """So many processes, each with its share of the threads."""

    option = "--workers"

    def __init__(self, count: int, told: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(count, told)
        self._threads = max(1, torch.get_num_threads() // count)
        self._packed: tuple[Context | None, bytes] = None, b""

    def started(self) -> _Process:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._threads), name="robusteval worker")
        with _uninterrupted():
            process.start()
        theirs.close()
        return _Process(process=process, connection=ours)

    def send(self, worker: _Process, work: Work, shard: Shard) -> None:
        if self._packed[0] is not work.context:
            self._packed = work.context, self.models(work.context)
        task = self.pickled((work.stage, shard), f"the settings of {work.stage.name}")
        try:
            worker.connection.send_bytes(b"" if worker.context is work.context else self._packed[1])
            worker.connection.send_bytes(task)
        except OSError:
            pass  # it died, which is heard next

    def listen(self, workers: Sequence[_Process]) -> Iterator[tuple[_Process, Said]]:
        heard: list[Any] = wait([w.connection for w in workers])
        for worker in [w for w in workers if w.connection in heard]:
            try:
                said = pickle.loads(worker.connection.recv_bytes())
            except (EOFError, OSError):
                worker.process.kill()
                worker.process.join()
                said = "died", _ended(worker.process.exitcode), worker.ready
            yield worker, said

    def end(self, worker: _Process) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()

    def stillborn(self, found: str) -> str:
        return (
            f"expected processes that start for --workers, got {found}; in a script of your own call "
            'audit below `if __name__ == "__main__":`'
        )


def _ended(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    return f"with code {code}"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process that starts within hears no Ctrl-C, also before its first line."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # which would let it through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
