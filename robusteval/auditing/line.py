"""The shards of a stage as workers take them: which wait, whose workers died, and which error is the stage's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from robusteval.auditing.stages.base import Shard

DEATHS = 3
"""How many workers may die on a shard, or each at its start before any is ready."""


@dataclass
class Task:
    """A shard, its place in their order, and how many workers died on it."""

    place: int
    shard: Shard
    deaths: int = 0


@dataclass
class ShardLine:
    """The shards of a stage: those to come, those that wait for a worker, and the errors by place. After an error no
    further shard is handed out but those before it."""

    stage: str
    shards: Iterator[Shard]
    waiting: deque[Task] = field(default_factory=deque)
    errors: dict[int, Exception] = field(default_factory=dict)
    count: int = 0

    def more(self) -> bool:
        """Whether one waits."""
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
                self.waiting.append(Task(self.count, shard))
                self.count += 1
        return bool(self.waiting)

    def died(self, task: Task, how: str, began: bool = True) -> str:
        """The shard of a worker that died waits for another one, and what there is to say of it; empty where the shard
        had its deaths, which is an error. Those of workers that had not begun with it are none of its own."""
        task.deaths += began
        what = f"shard {task.shard.name} of {self.stage}"
        if task.deaths < DEATHS:
            self.waiting.appendleft(task)
            return f"a worker ended {how}, {what} is computed again"
        self.errors[task.place] = RuntimeError(f"expected {what} from a worker, got {DEATHS} that ended {how}")
        return ""

    def end(self) -> None:
        """Raises the error of the first shard in order, which is the one that a single process meets."""
        if self.errors:
            raise self.errors[min(self.errors)]
