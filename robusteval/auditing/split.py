"""How many processes the cores of one machine are split into, by the throughput of the model with fewer threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from robusteval.auditing.hardware import DTYPES, measured_throughput
from robusteval.core.device import choose_device
from robusteval.models.classifier import Classifier

_GAIN = 1.1
"""How much faster several processes must be to be worth their start and their memory."""


@dataclass(frozen=True)
class Split:
    """So many processes of so many threads; images a second, forward and back, of all together and of one process with
    all threads. An ESTIMATE: one process was measured, and several share caches and memory."""

    processes: int
    threads: int
    rate: float
    alone: float

    def __str__(self) -> str:
        each = "one thread" if self.threads == 1 else f"{self.threads} threads"
        if self.processes == 1:
            return f"one process of {each}, since several would be hardly faster"
        return (
            f"{self.processes} processes of {each} each, by {self.rate:,.0f} images a second, forward "
            f"and back, against {self.alone:,.0f} of one process"
        )


def best_split(threads: int, rate: Callable[[int], float]) -> Split:
    """The split of so many threads with the best throughput; `rate`: images a second of one process with so many."""
    alone = rate(threads)
    best = Split(1, threads, alone, alone)
    for processes in (k for k in range(2, threads + 1) if threads % k == 0):
        own = Split(processes, threads // processes, processes * rate(threads // processes), alone)
        if own.rate > max(best.rate, _GAIN * alone):
            best = own
    return best


def measured_split(classifier: Classifier, dtype: torch.dtype) -> Split:
    """Of the threads that torch has on this CPU, measured for about a second each."""
    threads = torch.get_num_threads()

    def rate(count: int) -> float:
        torch.set_num_threads(count)
        try:
            return 1 / measured_throughput(classifier, torch.device("cpu"), dtype).seconds
        finally:
            torch.set_num_threads(threads)

    return best_split(threads, rate)


def asked_workers(
    workers: int | str | None,
    model: Classifier,
    told: Callable[[str], None],
    *,
    engine: str = "local",
    device: str = "auto",
    dtype: str = "float32",
) -> int | str | None:
    """The number that is asked for; for "auto" the best split of this machine's cores, which is `told`, or what a Ray
    cluster has room for, or one process for a GPU."""
    if workers != "auto":
        return workers
    if engine != "local" or choose_device(device).type != "cpu":
        return None
    split = measured_split(model.to("cpu", DTYPES[dtype]), DTYPES[dtype])
    told(f"--workers auto: {split}")
    return split.processes
