"""Progress bars."""

from __future__ import annotations

import io

from rich.console import Console

from robusteval.cli.progress import Bars


def test_a_bar_ends_at_its_total() -> None:
    shown = io.StringIO()
    with Bars(Console(file=shown, width=100)) as bars:
        bars.stage("one", 2, 10)
        for _ in range(3):
            bars.advance(4)
    assert "10/10" in shown.getvalue()
