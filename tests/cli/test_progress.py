"""Progress on a terminal, without one, and in a notebook."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from robusteval.cli import progress
from robusteval.cli.progress import Bars
from robusteval.cli.schedule import Planned
from robusteval.core.progress import PREPARING
from robusteval.core.times import spoken

COLUMNS, ROWS = 50, 24
CONTROL = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]|\x1b\[[\d;]*m")
LONG = "a-stage-with-a-very-long-name-that-no-terminal-of-fifty-columns-holds"


def screens(written: str) -> Iterator[list[str]]:
    """The lines of an endless terminal after each write that ended in a move of the cursor: enough of one to follow
    carriage returns, cursor up and erase. Raises where a line does not fit, which would wrap."""
    lines, row, column = [""], 0, 0
    at = 0
    while at < len(written):
        found = CONTROL.match(written, at)
        if found:
            amount = int(found[1] or 1) if found[1] is not None else 1
            if found[2] == "A":
                yield list(lines)
                row = max(row - amount, 0)
            elif found[2] == "K":
                lines[row] = ""
            at = found.end()
            continue
        character = written[at]
        at += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
            assert column <= COLUMNS, f"wraps: {lines[row]!r}"
    yield list(lines)


def on_a_terminal(action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """What an action writes to stderr, which is a pseudo-terminal of 50 columns and 24 rows."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LINES", str(ROWS))
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    written = bytearray()

    def read() -> None:
        # The other end closed is an error on Linux, an end of the file elsewhere.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                written.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        action()
    monkeypatch.undo()
    reader.join()
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def audits(stages: int) -> None:
    names = [f"{LONG}-{i}" for i in range(stages)]
    planned = [Planned(model, name, 0.001) for model in ("first", "second") for name in names]
    with Bars(Console(stderr=True), planned) as bars:
        for model in ("first", "second"):
            bars.begins(model, names)
            for name in names:
                bars.stage(name + PREPARING, 0, 3)
                bars.stage(name, 0, 10_000)
                for _ in range(3):
                    bars.advance(4_000)
                    bars._refresh()
        bars.stopped("another", "unavailable")


def test_fifty_columns_hold_two_bars_that_never_scroll(monkeypatch: pytest.MonkeyPatch) -> None:
    written = on_a_terminal(lambda: audits(20), monkeypatch)
    seen = list(screens(written))
    during = [screen for screen in seen if any("left" in line for line in screen)]
    assert len(during) > 40
    for screen in during:
        bars = [line for line in screen if "\u2501" in line or "\u2578" in line]
        assert len(bars) <= 2, screen
        assert [line for line in screen if line][-len(bars) :] == bars, "they stand below all else"
    ended = [line for line in seen[-1] if line]
    assert not [line for line in ended if "\u2501" in line], "nothing of the bars remains"
    assert len(ended) == 2 + 2 * 20 + 1
    assert ended[-1] == "[41/41] another: unavailable"


def test_the_bar_says_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def action() -> None:
        with Bars(Console(stderr=True), [Planned("m", "one", 1.0), Planned("m", "two", 3599.0)]) as bars:
            bars.begins("m", ["one", "two"])
            bars.stage("one", 0, 10)
            bars._refresh()

    found = [line for screen in screens(on_a_terminal(action, monkeypatch)) for line in screen]
    assert any(re.fullmatch(r"all stages .*0/2 +1:00:00 left *", line) for line in found), found


def plain(every: float, action: Callable[[Bars], None], planned: tuple[Planned, ...] = ()) -> list[str]:
    shown = io.StringIO()
    with Bars(Console(file=shown, width=COLUMNS), planned, every=every) as bars:
        action(bars)
    assert not set(shown.getvalue()) & {"\r", "\x1b"}
    return shown.getvalue().splitlines()


def test_without_a_terminal_each_stage_that_ended_is_a_line() -> None:
    def action(bars: Bars) -> None:
        bars.begins("m", ["one", "two", LONG])
        bars.stage("one", 10, 10)
        bars.stage("two" + PREPARING, 0, 2)
        bars.stage("two", 0, 10)
        for _ in range(3):
            bars.advance(4)
        bars.stopped(LONG, "failed")
        bars.warn("w " * 50)

    first, second, third, warning = plain(99, action)
    assert first == "[1/3] one: there already"
    assert re.fullmatch(r"\[2/3\] two: 0\.\d s(, about .* left)?", second)
    assert third == f"[3/3] {LONG}: failed"
    assert warning == f"warning: {'w ' * 50}".strip()


def test_a_long_stage_says_now_and_then_that_it_runs() -> None:
    def action(bars: Bars) -> None:
        bars.begins("m", ["one", "two"])
        bars.stage("one", 0, 10)
        bars.advance(5)
        time.sleep(0.5)

    *during, last = plain(0.1, action, (Planned("m", "one", 1.0), Planned("m", "two", 7.0)))
    assert len(during) >= 2
    assert all(re.fullmatch(r"one: 0\.\d s so far, 5 of 10, about \d+\.\d s left", line) for line in during), during
    assert last.startswith("[1/2] one: 0.")


def test_a_notebook_without_widgets_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "stderr", shown)
    with Bars(Console(force_jupyter=True)) as bars:
        bars.begins("m", ["one"])
        bars.stage("one", 0, 1)
    assert shown.getvalue().startswith("[1/1] one: 0.")


def test_an_error_ends_no_stage() -> None:
    def action(bars: Bars) -> Any:
        bars.stage("one", 0, 1)
        raise ValueError

    shown = io.StringIO()
    with pytest.raises(ValueError), Bars(Console(file=shown)) as bars:
        action(bars)
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (3599.6, "1 h 0 min"), (3900, "1 h 5 min")],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
