"""The engine of a Ray cluster (crew.py): one actor a GPU, or a few threads of a CPU, each of which holds the models.

The models are put into the cluster's memory once; a shard is given to an actor that has none, and its part comes back
to this process, which alone writes. An actor that is lost, with its process, its node or its memory, is replaced by
another, which starts as soon as the cluster has room for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robusteval.auditing.cluster import Room
from robusteval.auditing.crew import Crew, Said, Worker
from robusteval.auditing.engines import Work
from robusteval.auditing.holder import Holder
from robusteval.auditing.stages.base import Context, Shard
from robusteval.core.device import choose_device
from robusteval.models.extras import imported

PATIENCE = 60
"""Seconds without a worker until that is told."""


class Computing:
    """What lives in an actor."""

    def __init__(self, threads: int, device: str) -> None:
        choose_device(device)
        self._holder = Holder(threads)
        self._given = b"", b""

    def begin(self) -> bytes:
        return pickle.dumps(("ready",))

    def take(self, models: Sequence[Any], known: bool, task: bytes) -> None:
        """Have what is to be computed next. models: where they lie; they are fetched unless they are known."""
        self._given = b"" if known else imported("ray", "ray", "for --engine ray").get(models[0]), task

    def compute(self) -> bytes:
        """What there is to tell of it."""
        return pickle.dumps(self._holder.said(*self._given), pickle.HIGHEST_PROTOCOL)


@dataclass(eq=False, kw_only=True)
class _Actor(Worker):
    handle: Any
    answer: Any = None
    """What it will say; None where it was asked nothing."""
    taken: Any = None
    """There as soon as it has the shard."""


class Actors(Crew[_Actor]):
    """Such workers of a cluster to which `ray` is connected. device: what each works on, as it knows it."""

    option = "--engine ray"

    def __init__(self, ray: Any, room: Room, device: str, told: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(room.workers, told)
        self._ray, self._room, self._device = ray, room, device
        self._kind = ray.remote(Computing).options(
            num_cpus=room.threads, num_gpus=room.gpus, max_restarts=0, max_task_retries=0
        )
        self._packed: tuple[Context | None, list[Any]] = None, []
        self._waited = False

    def dumps(self, given: object) -> bytes:
        """With what a notebook or a script defines."""
        return bytes(self._ray.cloudpickle.dumps(given))

    def started(self) -> _Actor:
        handle = self._kind.remote(self._room.threads, self._device)
        return _Actor(handle=handle, answer=handle.begin.remote())

    def send(self, worker: _Actor, work: Work, shard: Shard) -> None:
        if self._packed[0] is not work.context:
            self._packed = work.context, [self._ray.put(self.models(work.context))]
        task = self.pickled((work.stage, shard), f"the settings of {work.stage.name}")
        worker.taken = worker.handle.take.remote(self._packed[1], worker.context is work.context, task)
        worker.answer = worker.handle.compute.remote()

    def listen(self, workers: Sequence[_Actor]) -> Iterator[tuple[_Actor, Said]]:
        asked = {w.answer: w for w in workers if w.answer is not None}
        answers = list(asked)
        self._ray.wait(answers, num_returns=1, timeout=PATIENCE)
        # All that are there: the first in the list would be heard more often.
        answered, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        if not answered and not self._waited and not any(w.ready for w in workers):
            self._waited = True
            self._told(f"no worker of the Ray cluster has started for {PATIENCE} s: each waits for {self._each()}")
        for answer in answered:
            worker = asked[answer]
            worker.answer = None
            try:
                said = pickle.loads(self._ray.get(answer))
            except self._ray.exceptions.RayError as error:
                said = "died", f"with {_ended(error)}", self._began(worker)
            yield worker, said

    def end(self, worker: _Actor) -> None:
        self._ray.kill(worker.handle)

    def stillborn(self, found: str) -> str:
        return (
            f"expected workers that start on the Ray cluster, got {found}; each node needs robusteval and what the "
            "model needs"
        )

    def _began(self, worker: _Actor) -> bool:
        """Whether one that died had the shard: it may have been dead before, which nobody tells."""
        if worker.taken is None:
            return False
        try:
            self._ray.get(worker.taken, timeout=0)
        except self._ray.exceptions.RayError:
            return False
        return True

    def _each(self) -> str:
        return "a GPU" if self._room.gpus else f"{self._room.threads} CPU"


def _ended(error: Exception) -> str:
    """An error of Ray in a line: its kind, and why, which stands behind "because" in pages of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    why = next((line for line in lines if " because " in line), lines[0])
    # Of what was raised when an actor started, the last line says what.
    why = lines[-1] if "creation task" in why else why.partition(" because ")[2] or why
    return f"{type(error).__name__} ({why.partition('. ')[0].rstrip('.')})"
