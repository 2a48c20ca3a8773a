"""What long work tells while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What an audit, a verification and a report tell while they run."""

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins, with `done` of `total` (images, batches of a preparation, figures) already there."""

    def advance(self, done: int) -> None:
        """So many more are there."""

    def warn(self, text: str) -> None:
        """Something that a reader should know at once."""


class Silent:
    """No progress shown."""

    def stage(self, name: str, done: int, total: int) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def warn(self, text: str) -> None:
        pass
