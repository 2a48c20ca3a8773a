"""How far long work is and how long the rest may take, out of what was planned and what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Planned:
    """A stage of a model's audit, and the seconds that it may take; None where nobody can say before it ran."""

    model: str
    stage: str
    seconds: float | None = None


@dataclass
class Current:
    """The stage that runs: since when, and how far it is."""

    planned: Planned
    since: float
    label: str
    done: int = 0
    total: int = 0
    kept: bool = False
    """Whether all of it was there before."""


class Schedule:
    """What is to be done, what is done, and the seconds that it took.

    A stage to come is expected to take what the same stage took on another model; else what was planned, times how much
    longer than planned those before it took; else the mean of all before it.
    """

    def __init__(self, planned: Iterable[Planned] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.planned = list(planned)
        self.clock, self.began = clock, clock()
        self.model = ""
        self.current: Current | None = None
        self.taken: dict[tuple[str, str], float] = {}
        self.measured: dict[str, list[float]] = {}
        self._pace: list[tuple[float, float]] = []

    @property
    def finished(self) -> int:
        return len(self.taken)

    @property
    def total(self) -> int:
        return len(self.planned)

    def begins(self, model: str, stages: Sequence[str]) -> None:
        """The stages of a model, added where they were not planned."""
        self.model = model
        known = {(p.model, p.stage) for p in self.planned}
        self.planned += [Planned(model, s) for s in stages if (model, s) not in known]

    def start(self, stage: str, label: str, done: int, total: int) -> None:
        """A stage begins; or a part of the one that runs, which goes on under another label."""
        if self.current is None or self.current.planned.stage != stage:
            found = (p for p in self.planned if (p.model, p.stage) == (self.model, stage))
            planned = next(found, None)
            if planned is None:
                planned = Planned(self.model, stage)
                self.planned.append(planned)
            self.current = Current(planned, self.clock(), label, kept=0 < total == done)
        self.current.label, self.current.done, self.current.total = label, done, total

    def advance(self, done: int) -> None:
        """A stage that moved its bar by itself may end it twice."""
        if self.current is not None:
            self.current.done = min(self.current.done + done, self.current.total)

    def end(self, worked: bool = True) -> float:
        """The running stage ends; the seconds that it took. What did not work says nothing of others."""
        assert self.current is not None
        planned, seconds = self.current.planned, self.clock() - self.current.since
        self.taken[planned.model, planned.stage] = seconds
        if worked and not self.current.kept:
            self.measured.setdefault(planned.stage, []).append(seconds)
            if planned.seconds is not None:
                self._pace.append((planned.seconds, seconds))
        self.current = None
        return seconds

    def left(self) -> float | None:
        """Seconds that the rest may take; None while nothing can be said."""
        rest = 0.0
        for planned in self.planned:
            running = self.current is not None and planned == self.current.planned
            if (planned.model, planned.stage) in self.taken and not running:
                continue
            expected = self._expected(planned)
            if running:
                expected = self._rest_of_current(expected)
            if expected is None:
                return None
            rest += expected
        return rest

    def share(self) -> float:
        """The part of all work that is done, by its seconds where these can be said, else by stages; in [0, 1]."""
        left, spent = self.left(), self.clock() - self.began
        if left is not None and spent + left > 0:
            return spent / (spent + left)
        return self.finished / self.total if self.total else 0.0

    def _expected(self, planned: Planned) -> float | None:
        if planned.stage in self.measured:
            return fmean(self.measured[planned.stage])
        if planned.seconds is not None:
            meant, took = (sum(column) for column in zip(*self._pace, strict=True)) if self._pace else (0.0, 0.0)
            return planned.seconds * (took / meant if meant > 0 else 1.0)
        every = [seconds for some in self.measured.values() for seconds in some]
        return fmean(every) if every else None

    def _rest_of_current(self, expected: float | None) -> float | None:
        assert self.current is not None
        spent = self.clock() - self.current.since
        if 0 < self.current.done < self.current.total and not self.current.label.endswith("preparing"):
            return spent * (self.current.total - self.current.done) / self.current.done
        return None if expected is None else max(expected - spent, 0.0)
