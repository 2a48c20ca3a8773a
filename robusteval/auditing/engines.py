"""Engines: how the shards of a stage are computed. Here: in this process, one after another; workers.py: in several;
actors.py: on a Ray cluster.

What an engine is given is pure and can be pickled: a stage's `compute` with its context, and shards that were fed. It
may run them anywhere, in any order, and again if it loses one; only the edge of an audit writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from robusteval.auditing.stages.base import Context, Shard, Stage, unheard
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.core.streams import derive_seed
from robusteval.models.behaviour import seeded
from robusteval.results.files import Arrays


@dataclass(frozen=True)
class Work:
    """What is to be done with each shard."""

    stage: Stage
    context: Context

    def __call__(self, shard: Shard, step: Step = unheard) -> Part:
        return self._by_batches(shard, lambda batch, step: self.stage.compute(self.context, batch, step), step)

    def again(self, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        """The same to be held against what is stored."""
        return self._by_batches(
            shard, lambda batch, _: self.stage.recompute(self.context, batch, stored, arrays), unheard
        )

    def _by_batches(self, shard: Shard, compute: Callable[[Shard, Step], Part], step: Step) -> Part:
        """A model that draws random numbers of its own draws those of the batch, wherever and whenever it runs."""
        parts = []
        for batch in self.stage.batches(shard, self.context.batch or len(shard.images)):
            with seeded(derive_seed(self.context.seed, self.stage.name, batch.images.ids[0]), batch.images.labels):
                parts.append(compute(batch, step))
        return self.stage.joined(parts)


@dataclass(frozen=True)
class Result:
    """A shard, what became of it, and the seconds that took."""

    shard: Shard
    part: Part
    seconds: float


class Engine(Protocol):
    """Computes shards, in any order, and yields each as soon as it is whole. `step` is told of the progress inside a
    shard, where an engine can."""

    def __call__(self, work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]: ...


def local(work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
    """One after another in this process; torch spreads each over the cores."""
    for shard in shards:
        start = time.perf_counter()
        part = work(shard, step)
        yield Result(shard, part, time.perf_counter() - start)
