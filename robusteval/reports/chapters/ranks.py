"""What is measured by rank: curves with a standard error, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis import show
from robusteval.reports.figures.drawing import COLOURS, DASHES
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RANKS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
"""Those of a table."""
DOTS = 40
"""Of more ranks the single ones are not marked."""


def curves(axes: Axes, data: pd.DataFrame, quantities: Mapping[str, str]) -> None:
    """A line for each of `quantities` (to its label) out of columns quantity, rank, mean, standard_error."""
    from matplotlib.ticker import MaxNLocator

    for i, (quantity, label) in enumerate(quantities.items()):
        curve = data[data["quantity"] == quantity]
        if len(curve):
            mean, error = curve["mean"], curve["standard_error"]
            dots = "osD"[i] if len(curve) <= DOTS else ""
            axes.fill_between(curve["rank"], mean - error, mean + error, color=COLOURS[i], alpha=0.25, lw=0)
            axes.plot(curve["rank"], mean, DASHES[i], marker=dots, ms=3, lw=1.4, color=COLOURS[i], label=label)
    axes.set(xlabel="rank")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def ranks_table(title: str, data: pd.DataFrame, quantities: Mapping[str, str], first: str, note: str) -> Grid:
    """The same at some ranks, in text: mean and standard error."""
    ranks = [r for r in RANKS if (data["rank"] == r).any()]
    columns = (data[name].tolist() for name in ("quantity", "rank", "mean", "standard_error"))
    cells = {(q, r): f"{show.significant(mean)} ± {error:.2g}" for q, r, mean, error in zip(*columns, strict=True)}
    rows = [[label, *(cells.get((q, r), "-") for r in ranks)] for q, label in quantities.items() if (q, 1) in cells]
    return Grid(title, [first, *(f"rank {r}" for r in ranks)], rows, note=note)
