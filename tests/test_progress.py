"""Progress bars, and Ctrl-C while they are shown."""

from __future__ import annotations

import contextlib
import io
import signal

import pytest
from rich.console import Console

from robusteval.progress import Bars


def test_an_interrupt_that_a_library_swallows_comes_back_at_the_next_step() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Bars(Console(file=io.StringIO())) as bars:  # noqa: PT012
        bars.stage("one", 0, 10)
        bars.advance(1)
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        bars.advance(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_bar_ends_at_its_total() -> None:
    shown = io.StringIO()
    with Bars(Console(file=shown, width=100)) as bars:
        bars.stage("one", 2, 10)
        for _ in range(3):
            bars.advance(4)
    assert "10/10" in shown.getvalue()


def test_another_handler_stays_in_charge() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with Bars(Console(file=io.StringIO())) as bars:
            bars.stage("one", 0, 2)
            signal.raise_signal(signal.SIGINT)
            bars.advance(2)
        assert seen == [1]
    finally:
        signal.signal(signal.SIGINT, before)
