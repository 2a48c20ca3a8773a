"""What the engines of several workers have in common: each holds the models, and takes a shard whenever it has none.

The shard of a worker that dies is given to another; of one whose workers die each time, the stage fails. After an error
no further shard is handed out; those under way are brought home first. A slow worker is given fewer shards, since each
asks for its next. A shard that was yielded is given to nobody again. An engine says how a worker starts, is given a
shard, is listened to, and ends.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from robusteval.auditing.engines import Result, Work
from robusteval.auditing.line import DEATHS, ShardLine, Task
from robusteval.auditing.stages.base import Context, Shard
from robusteval.core.errors import UserError, first_line
from robusteval.core.memory import is_out_of_memory
from robusteval.core.methods import Step
from robusteval.core.user_code import files_run

Said = tuple[Any, ...]
"""What a worker tells: ("ready",) once, ("moved", done, total) while it works, ("part", part, seconds) or ("error",
error, whether memory ran out) when a shard is done; and what is heard of it, ("died", how, whether it had begun with
what it was given)."""


@dataclass(eq=False)
class Worker:
    """One of them: whether it has started, the models that it has, the shard that it works on."""

    ready: bool = False
    context: Context | None = None
    task: Task | None = None


W = TypeVar("W", bound=Worker)


class Crew(ABC, Generic[W]):
    """An engine (engines.py). Its workers start with the first stage and are kept for all that follow; `told` is given
    a line where one died."""

    option: ClassVar[str]
    """What the user wrote to have it, for errors."""

    def __init__(self, count: int, told: Callable[[str], None] = lambda text: None) -> None:
        self._count, self._told = count, told
        self._workers: list[W] = []
        self._stillborn = 0

    @abstractmethod
    def started(self) -> W:
        """A new worker, which is ready later."""

    @abstractmethod
    def send(self, worker: W, work: Work, shard: Shard) -> None:
        """Give a shard, and the models if they are others than it has. One that died is heard of later. Raises
        UserError for what cannot be sent."""

    @abstractmethod
    def listen(self, workers: Sequence[W]) -> Iterable[tuple[W, Said]]:
        """Wait until some tell something, at most a while."""

    @abstractmethod
    def end(self, worker: W) -> None:
        """End it, whatever it does."""

    @abstractmethod
    def stillborn(self, found: str) -> str:
        """What to say where no worker starts, but so many ended."""

    def __call__(self, work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
        line = ShardLine(work.stage.name, iter(shards))
        for worker in [w for w in self._workers if w.task is not None]:
            self._end(worker)  # it works for a stage that was given up
        while self._goes_on(line):
            self._workers += [self.started() for _ in range(self._count - len(self._workers))]
            for worker in self._workers:
                if worker.ready and worker.task is None:
                    self._give(worker, work, line)
            if not self._goes_on(line):
                break  # what was to be given cannot be sent
            for worker, said in self.listen(self._workers):
                yield from self._hear(worker, said, work, line, step)
        line.end()

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers[:]:
            self._end(worker)

    def dumps(self, given: object) -> bytes:
        """What is sent, as bytes for pickle.loads."""
        return pickle.dumps(given, pickle.HIGHEST_PROTOCOL)

    def pickled(self, given: object, what: str) -> bytes:
        """Raises UserError for what cannot be sent."""
        try:
            return self.dumps(given)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            found = first_line(error)
            raise UserError(f"expected what {self.option} can send to other processes, got {what}: {found}") from error

    def models(self, context: Context) -> bytes:
        """What a worker is given before its first shard of these models: the user's Python files that were run until
        now, and the models. Raises UserError."""
        packed = self.pickled(context, f"the model {context.classifier.name}")
        return pickle.dumps((files_run(), packed), pickle.HIGHEST_PROTOCOL)

    def _goes_on(self, line: ShardLine) -> bool:
        return line.more() or any(w.task is not None for w in self._workers)

    def _give(self, worker: W, work: Work, line: ShardLine) -> None:
        if not line.more():
            return
        task = line.waiting.popleft()
        try:
            self.send(worker, work, task.shard)
        except Exception as error:
            line.errors[task.place] = error
            return
        worker.task, worker.context = task, work.context

    def _hear(self, worker: W, said: Said, work: Work, line: ShardLine, step: Step) -> Iterator[Result]:
        kind, *rest = said
        if kind == "died":
            how, began = rest
            self._died(worker, how, began, line)
            return
        self._stillborn = 0
        task = worker.task
        if kind == "ready":
            worker.ready = True
        elif kind == "moved":
            step(*rest)
        elif task is not None:
            worker.task = None
            if kind == "error":
                error, short = rest
                error.__cause__ = MemoryError() if short else None
                line.errors[task.place] = error
                return
            # It is at work again while its part is written.
            self._give(worker, work, line)
            yield Result(task.shard, *rest)

    def _died(self, worker: W, how: str, began: bool, line: ShardLine) -> None:
        """Its shard waits for another one. Raises UserError where no worker starts."""
        self._end(worker)
        if not began:
            self._stillborn += 1
            if self._stillborn >= DEATHS * self._count:
                raise UserError(self.stillborn(f"{self._stillborn} that ended {how}"))
        if worker.task is not None and (text := line.died(worker.task, how, began)):
            self._told(text)

    def _end(self, worker: W) -> None:
        self._workers.remove(worker)
        self.end(worker)
