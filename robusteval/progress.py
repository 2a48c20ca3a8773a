"""Progress bars on a terminal: one a stage, with an estimate of the time left."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

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
    """The progress of an audit (robusteval.audit.session.Progress), drawn by rich.

    While it is shown, Ctrl-C is remembered and raised again at the next step: a library that Python calls back from C
    may swallow the exception, and the audit would go on.
    """

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
        self._interrupted = False
        self._handler: Any = None

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage begins, with `done` of `total` (images, or batches of a preparation) already there."""
        self._task = self._bars.add_task(name, total=total, completed=done)

    def advance(self, done: int) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        if self._task is not None:
            # A stage that moved its bar by itself may end it twice.
            bar = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=min(bar.completed + done, bar.total or 0))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def __enter__(self) -> Bars:
        # Only the main thread may handle signals, and only the usual handler is replaced.
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        self._bars.stop()
