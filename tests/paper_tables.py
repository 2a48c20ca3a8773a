"""What the tests of curves and of the papers' tables share."""

from __future__ import annotations

import math

from robusteval.reports import paper_tables
from robusteval.reports.grid import Grid
from robusteval.results.run import Run

INF = math.inf


CORRECT = [True, True, True, False]


def tables(*runs: Run) -> dict[str, Grid]:
    return {grid.name: grid for grid in paper_tables(runs)}
