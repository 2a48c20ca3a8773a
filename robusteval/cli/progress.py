"""Progress on a terminal: one bar a stage, with an estimate of the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich import progress
from rich.console import Console

from robusteval.core.foreign import one_line

LONGEST = 80
"""Of a stage's name before its bar, in characters."""


class Bars:
    """Progress, drawn by rich."""

    def __init__(self, console: Console) -> None:
        self._bars = _bars(console)
        self._task: progress.TaskID | None = None

    def stage(self, name: str, done: int, total: int) -> None:
        self._task = self._bars.add_task(one_line(name, LONGEST), total=total, completed=done)

    def advance(self, done: int) -> None:
        if self._task is not None:
            # A stage that moved its bar by itself may end it twice.
            bar = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=min(bar.completed + done, bar.total or 0))

    def stopped(self, name: str, status: str) -> None:
        """Its bar, empty if it never began, stands still and says why."""
        name = one_line(name, LONGEST)
        own = next((b.id for b in reversed(self._bars.tasks) if b.description == name), None)
        task = self._bars.add_task(name, total=None) if own is None else own
        self._bars.update(task, description=f"{name}: {status}")
        self._bars.stop_task(task)

    def warn(self, text: str) -> None:
        text = one_line(f"warning: {text}")
        self._bars.console.print(text, style="yellow", markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something else is printed: these bars end where they are, and new ones begin below it."""
        self._bars.stop()
        yield
        self._bars, self._task = _bars(self._bars.console), None
        self._bars.start()

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


def _bars(console: Console) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=console,
    )
