"""What long work tells while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from robusteval.core.methods import Step

PREPARING = ", preparing"
"""Behind the name of a stage while it learns from the whole set."""


class Progress(Protocol):
    """What an audit, a verification and a report tell while they run."""

    def begins(self, model: str, stages: Sequence[str]) -> None:
        """The work on a model begins: the names of its stages, in their order."""

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins, with `done` of `total` (images, batches of a preparation, figures) already there."""

    def advance(self, done: int) -> None:
        """So many more are there."""

    def stopped(self, name: str, status: str) -> None:
        """A stage ended before its work was done: unavailable, failed."""

    def warn(self, text: str) -> None:
        """Something that a reader should know at once."""


class Silent:
    """No progress shown."""

    def begins(self, model: str, stages: Sequence[str]) -> None:
        pass

    def stage(self, name: str, done: int, total: int) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def stopped(self, name: str, status: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


def share_of_work(progress: Progress, images: int) -> Step:
    """Moves the bar of a stage that is one shard, which counts images, by the share of its work."""
    shown = 0

    def step(done: int, total: int) -> None:
        nonlocal shown
        progress.advance(images * done // total - shown)
        shown = images * done // total

    return step


def preparing(progress: Progress, name: str) -> Step:
    """A bar of its own for what a stage learns from the whole set."""
    shown = 0

    def step(done: int, total: int) -> None:
        nonlocal shown
        if shown == 0:
            progress.stage(name + PREPARING, 0, total)
        progress.advance(done - shown)
        shown = done

    return step
