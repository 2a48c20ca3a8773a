"""The headline as a table."""

from __future__ import annotations

from robusteval.analysis.headline import headline_of
from robusteval.analysis.summary import Summary
from robusteval.reports.grid import Grid


def headline_grid(summary: Summary) -> Grid:
    rows = [[x.quantity, x.at, x.shown, x.interval, f"{x.n:,}"] for x in headline_of(summary)]
    return Grid("Headline", ["Quantity", "at", "value", "95 % interval", "images"], rows, text=2)
