"""Seconds spent between marks, on the clock of the device that does the work."""

from __future__ import annotations

import time

import torch

_HELD = 1000
"""Intervals on a GPU that are held before they are summed: reading one waits for the GPU."""

Events = tuple[torch.cuda.Event, torch.cuda.Event]


class Stopwatch:
    """Sums intervals that do not overlap, in seconds.

    On a CPU by the wall clock. A GPU works behind the caller's back: there an interval lies between two events on the
    stream that is current, from when the work queued before it is done until its own is, and nothing waits before
    `seconds` is read. A start that is not followed by a stop is dropped by the next start, and a stop without a start
    adds nothing: of intervals that overlap, the sum has never more than they cover.
    """

    def __init__(self) -> None:
        self._begun: float | torch.cuda.Event | None = None
        self._held: list[Events] = []
        self._seconds = 0.0

    def start(self, device: torch.device) -> None:
        self._begun = _event() if device.type == "cuda" else time.perf_counter()

    def stop(self) -> None:
        begun, self._begun = self._begun, None
        if isinstance(begun, float):
            self._seconds += time.perf_counter() - begun
        elif begun is not None:
            self._held.append((begun, _event()))
            if len(self._held) >= _HELD:
                self._sum_up()

    @property
    def seconds(self) -> float:
        """The sum of all intervals that have ended; waits until a GPU has done their work."""
        self._sum_up()
        return self._seconds

    def _sum_up(self) -> None:
        for begun, ended in self._held:
            ended.synchronize()
            self._seconds += begun.elapsed_time(ended) / 1000
        self._held.clear()


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
