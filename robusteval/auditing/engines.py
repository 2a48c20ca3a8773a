"""Engines: how the shards of a stage are computed. One so far: in this process, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from robusteval.auditing.plan import Shard
from robusteval.auditing.stages import Part

Work = Callable[[Shard], Part]
Result = tuple[Shard, Part, float]
"""A shard, what became of it, and the seconds that took."""


class Engine(Protocol):
    """Computes shards, in any order, and yields each as soon as it is whole."""

    def __call__(self, work: Work, shards: Sequence[Shard]) -> Iterator[Result]: ...


def local(work: Work, shards: Sequence[Shard]) -> Iterator[Result]:
    """One after another in this process; torch spreads each over the cores."""
    for shard in shards:
        start = time.perf_counter()
        part = work(shard)
        yield shard, part, time.perf_counter() - start
