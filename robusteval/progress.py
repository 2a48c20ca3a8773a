"""Progress bars on a terminal: one a stage, with an estimate of the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """The progress of an audit (robusteval.audit.session.Progress), drawn by rich."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins, with `done` of `total` (images, or batches of a preparation) already there."""
        self._task = self._bars.add_task(name, total=total, completed=done)

    def advance(self, done: int) -> None:
        if self._task is not None:
            # A stage that moved its bar by itself may end it twice.
            bar = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=min(bar.completed + done, bar.total or 0))

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
