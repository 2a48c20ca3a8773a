"""Progress: one bar over all work with the time left, the stage that runs below it, and a line for each that ended.

Where nothing can be drawn over, in a file, a pipe or a notebook without ipywidgets, lines alone: one for each stage
that ended, and one every half a minute while a long one runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Event, Lock, RLock, Thread
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from robusteval.cli.schedule import Planned, Schedule
from robusteval.cli.terminal import Terminal
from robusteval.core.foreign import one_line
from robusteval.core.progress import PREPARING
from robusteval.core.times import spoken

LONGEST = 80
"""Of a stage's name, in characters; of the bars, in columns."""
EVERY = 30.0
"""Seconds between two lines about a stage that runs, where nothing is drawn over."""
REFRESH = 0.25
"""Seconds between two drawings of the bars."""


class Bars:
    """Progress on a console, stderr unless given; `planned` are the stages to come, as far as they are known,
    `plans` what is said where the work on a model begins.

    with Bars() as bars:
        robusteval.audit(network, data, progress=bars)
    """

    def __init__(
        self,
        console: Console | None = None,
        planned: Iterable[Planned] = (),
        plans: Mapping[str, str] | None = None,
        every: float = EVERY,
    ) -> None:
        self._plans = plans or {}
        console = console or Terminal(stderr=True)
        notebook = console.is_jupyter
        self._drawn = find_spec("ipywidgets") is not None if notebook else _can_be_drawn_over(console)
        plain = notebook and not self._drawn
        self._console = Console(file=sys.stderr, force_jupyter=False, emoji=False) if plain else console
        self._schedule, self._note = Schedule(planned), ""
        # Two locks: rich asks for the bars while it prints. What prints at the same time takes each other's lines away.
        self._lock, self._printing = RLock(), Lock()
        self._live = Live(get_renderable=self._bars, console=self._console, auto_refresh=False, transient=True)
        self._ended = Event()
        ticking = (self._refresh, REFRESH) if self._drawn else (self._tell, every)
        self._clock = Thread(target=self._tick, args=ticking, daemon=True)

    def begins(self, model: str, stages: Sequence[str]) -> None:
        with self._lock:
            lines = self._end()
            self._schedule.begins(model, stages)
            several = len({planned.model for planned in self._schedule.planned}) > 1
        self._say(lines)
        if model in self._plans:
            self._say([one_line(self._plans[model])], whole=True)
        elif several:
            self._say([f"{one_line(model, LONGEST)}:"])

    def stage(self, name: str, done: int, total: int) -> None:
        own = name.removesuffix(PREPARING)
        with self._lock:
            lines = [] if self._runs(own) else self._end()
            self._schedule.start(own, one_line(name, LONGEST), done, total)
            self._note = ""
        self._say(lines)

    def advance(self, done: int) -> None:
        with self._lock:
            self._schedule.advance(done)

    def note(self, text: str) -> None:
        """What stands behind the stage that runs."""
        self._note = one_line(text, LONGEST)

    def stopped(self, name: str, status: str) -> None:
        """The stage, which perhaps never began, ended before its work was done."""
        with self._lock:
            lines: list[str] = []
            if not self._runs(name):
                lines = self._end()
                self._schedule.start(name, one_line(name, LONGEST), 0, 0)
            lines += self._end(status)
        self._say(lines)

    def warn(self, text: str) -> None:
        self._say([one_line(f"warning: {text}")], style="yellow", whole=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something else is printed: the stage that ran has its line, and the bars go on below."""
        with self._lock:
            lines = self._end()
        self._say(lines)
        if self._drawn:
            with self._printing:
                self._live.stop()
        yield
        if self._drawn:
            with self._printing:
                self._live.start()

    def __enter__(self) -> Bars:
        if self._drawn:
            self._live.start()
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._clock.join()
        with self._lock:
            lines = self._end() if kind is None else []
        self._say(lines)
        if self._drawn:
            self._live.stop()

    def _runs(self, stage: str) -> bool:
        current = self._schedule.current
        return current is not None and current.planned.stage == stage

    def _end(self, status: str = "") -> list[str]:
        """The line of the stage that ran, if one did."""
        schedule, current = self._schedule, self._schedule.current
        if current is None:
            return []
        name, kept = one_line(current.planned.stage, LONGEST), current.kept
        seconds = spoken(schedule.end(worked=not status))
        said = status or ("there already" if kept else seconds)
        counted = f"[{schedule.finished}/{schedule.total}] "
        if not self._drawn:
            return [f"{counted}{name}: {said}{self._left()}"]
        room = self._console.width - len(counted) - len(f": {said}")
        return [f"{counted}{one_line(name, max(room, 1))}: {said}"]

    def _left(self) -> str:
        left = self._schedule.left()
        return f", about {spoken(left)} left" if left else ""

    def _say(self, lines: Iterable[str], style: str = "", whole: bool = False) -> None:
        """Lines; above the bars at most as long as the terminal is wide, unless they have to be read whole."""
        for line in lines:
            cut = self._drawn and not whole
            fit = {"no_wrap": True, "overflow": "ellipsis"} if cut else {"soft_wrap": True}
            with self._printing:
                self._console.print(Text(line, style=style), highlight=False, **fit)

    def _bars(self) -> Table:
        """Both lines; none where there is nothing to do."""
        with self._lock:
            schedule, current, left = self._schedule, self._schedule.current, self._schedule.left()
            table = Table.grid(padding=(0, 1, 0, 0))
            table.width = min(self._console.width, LONGEST)
            table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            for width in (12, None, None):
                table.add_column(width=width, no_wrap=True)
            if schedule.total > 1:
                bar = ProgressBar(total=1.0, completed=schedule.share(), width=12)
                time = "" if left is None else f"{_clocked(left)} left"
                table.add_row("all stages", bar, f"{schedule.finished}/{schedule.total}", time)
            if current is not None:
                bar = ProgressBar(total=current.total or None, completed=current.done, width=12)
                said = self._note or (f"{current.done}/{current.total}" if current.total else "")
                spent = schedule.clock() - current.since
                own = schedule.left() if schedule.total == 1 else None
                time = _clocked(spent) if own is None else f"{_clocked(own)} left"
                table.add_row(_cut(current.label), bar, said, time)
            return table

    def _tick(self, action: Callable[[], None], seconds: float) -> None:
        while not self._ended.wait(seconds):
            action()

    def _refresh(self) -> None:
        with self._printing:
            self._live.refresh()

    def _tell(self) -> None:
        """The line of a stage that runs for long."""
        with self._lock:
            current = self._schedule.current
            if current is None:
                return
            far = f", {current.done} of {current.total}" if current.done else ""
            note = f", {self._note}" if self._note else ""
            spent = spoken(self._schedule.clock() - current.since)
            line = f"{current.label}: {spent} so far{far}{note}{self._left()}"
        self._say([line])


def _clocked(seconds: float) -> str:
    """A time as a clock shows it, which keeps its width: 0:04, 1:05:00."""
    whole = round(seconds)
    hours = f"{whole // 3600}:{whole % 3600 // 60:02d}" if whole >= 3600 else str(whole // 60)
    return f"{hours}:{whole % 60:02d}"


def _cut(text: str) -> Text:
    return Text(one_line(text, LONGEST), no_wrap=True, overflow="ellipsis")


def _can_be_drawn_over(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal
