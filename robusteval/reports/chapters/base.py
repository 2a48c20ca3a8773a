"""Chapter: what a report shows of one metric; and the numbers of one of its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.grid import Grid


def nothing(results: Results) -> list[Any]:
    return []


@dataclass(frozen=True)
class Chapter:
    """The figures and tables of one metric, empty where no stage of the run measured it.

    Titles name the paper and its figure, so that a reader who knows the paper finds it.
    """

    method: str
    title: str
    plots: Callable[[Results], list[Plot]]
    grids: Callable[[Results], list[Grid]] = nothing
