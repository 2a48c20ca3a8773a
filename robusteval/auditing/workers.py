"""The engine of several processes on one machine: each holds the models, and takes a shard whenever it has none.

Processes are spawned, for threads and a fork do not mix. What goes to them and comes back is pickled; this process
alone reads and writes the run. The shard of a worker that dies is given to another; of one whose workers die each
time, the stage fails. After an error no further shard is handed out; those under way are brought home, and the error
of the first shard in order is raised, which is the one that a single process meets.
"""

from __future__ import annotations

import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from robusteval.auditing.engines import Engine, Result, Work, local
from robusteval.auditing.stages.base import Context, Shard
from robusteval.auditing.worker import serve
from robusteval.core.device import choose_device
from robusteval.core.errors import UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.methods import Step
from robusteval.core.user_code import files_run

MOST = 256
DEATHS = 3
"""How many workers may die on a shard, or one after another before they are ready."""


@dataclass
class _Task:
    """A shard, its place in their order, and how many workers died on it."""

    place: int
    shard: Shard
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    context: Context | None = None
    """The models that it has."""
    task: _Task | None = None


@dataclass
class _Line:
    """The shards of a stage: those to come, those that wait for a worker, and the errors by place."""

    shards: Iterator[Shard]
    waiting: deque[_Task] = field(default_factory=deque)
    errors: dict[int, Exception] = field(default_factory=dict)
    count: int = 0

    def more(self) -> bool:
        """Whether one waits; after an error only those before it."""
        if self.errors:
            first = min(self.errors)
            self.waiting = deque(task for task in self.waiting if task.place < first)
        elif not self.waiting:
            try:
                shard = next(self.shards, None)
            except Exception as error:
                self.errors[self.count] = error
                return False
            if shard is not None:
                self.waiting.append(_Task(self.count, shard))
                self.count += 1
        return bool(self.waiting)


@contextmanager
def working(count: int, device: str = "auto", told: Callable[[str], None] = lambda text: None) -> Iterator[Engine]:
    """The engine of so many processes, this one alone where that is 1; they end with the block. `told` is given a line
    where one died. Raises UserError."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise UserError(f"expected --workers of at least 1 and at most {MOST}, got {count}")
    if count == 1:
        yield local
        return
    on = choose_device(device)
    if on.type != "cpu":
        raise UserError(f"expected --device cpu with --workers {count}, got {on}: one process works a GPU")
    workers = Workers(count, told)
    try:
        yield workers
    finally:
        workers.close()


class Workers:
    """An engine (engines.py). Its processes start with the first stage and are kept for all that follow, each with its
    share of the threads."""

    def __init__(self, count: int, told: Callable[[str], None] = lambda text: None) -> None:
        self._count, self._told = count, told
        self._threads = max(1, torch.get_num_threads() // count)
        self._workers: list[_Worker] = []
        self._stillborn = 0
        self._packed: tuple[Context | None, bytes] = None, b""

    def __call__(self, work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
        line = _Line(iter(shards))
        for worker in [w for w in self._workers if w.task is not None]:
            self._end(worker)  # it works for a stage that was given up
        while self._goes_on(line):
            self._workers += [self._started() for _ in range(self._count - len(self._workers))]
            for worker in self._workers:
                if worker.ready and worker.task is None:
                    self._give(worker, work, line)
            if not self._goes_on(line):
                break  # what was to be given cannot be sent
            heard: list[Any] = wait([w.connection for w in self._workers])
            for worker in [w for w in self._workers if w.connection in heard]:
                yield from self._hear(worker, work, line, step)
        if line.errors:
            raise line.errors[min(line.errors)]

    def close(self) -> None:
        """End the processes, whatever they do."""
        for worker in self._workers[:]:
            self._end(worker)

    def _goes_on(self, line: _Line) -> bool:
        return line.more() or any(w.task is not None for w in self._workers)

    def _started(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._threads, files_run()), name="robusteval worker")
        with _uninterrupted():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker, work: Work, line: _Line) -> None:
        """The next shard, if one waits, and the models if they are others than it has."""
        if not line.more():
            return
        task = worker.task = line.waiting.popleft()
        try:
            if self._packed[0] is not work.context:
                self._packed = work.context, _pickled(work.context, f"the model {work.context.classifier.name}")
            known = worker.context is work.context
            pickled = _pickled((work.stage, task.shard), f"the settings of {work.stage.name}")
        except Exception as error:
            worker.task, line.errors[task.place] = None, error
            return
        try:
            worker.connection.send_bytes(b"" if known else self._packed[1])
            worker.connection.send_bytes(pickled)
            worker.context = work.context
        except OSError:
            pass  # it died, which is heard next

    def _hear(self, worker: _Worker, work: Work, line: _Line, step: Step) -> Iterator[Result]:
        task = worker.task
        try:
            kind, *said = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._died(worker, work, line)
            return
        if kind == "ready":
            worker.ready, self._stillborn = True, 0
        elif kind == "moved":
            step(*said)
        elif task is not None:
            worker.task = None
            if kind == "error":
                error, short = said
                error.__cause__ = MemoryError() if short else None
                line.errors[task.place] = error
                return
            # It is at work again while its part is written.
            self._give(worker, work, line)
            yield Result(task.shard, *said)

    def _died(self, worker: _Worker, work: Work, line: _Line) -> None:
        """Its shard waits for another one. Raises UserError where no worker starts."""
        task, ready = worker.task, worker.ready
        self._end(worker)
        how = _ended(worker.process.exitcode)
        if not ready:
            self._stillborn += 1
            if self._stillborn >= DEATHS:
                raise UserError(
                    f"expected processes that start for --workers, got {DEATHS} that ended {how}; in a script of your "
                    'own call audit below `if __name__ == "__main__":`'
                )
        if task is None:
            return
        task.deaths += 1
        what = f"shard {task.shard.name} of {work.stage.name}"
        if task.deaths < DEATHS:
            line.waiting.appendleft(task)
            self._told(f"a worker ended {how}, {what} is computed again")
        else:
            line.errors[task.place] = RuntimeError(f"expected {what} from a worker, got {DEATHS} that ended {how}")

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _pickled(given: object, what: str) -> bytes:
    """Raises UserError for what cannot be sent."""
    try:
        return pickle.dumps(given, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        found = first_line(error)
        raise UserError(f"expected what --workers can send to other processes, got {what}: {found}") from error


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
