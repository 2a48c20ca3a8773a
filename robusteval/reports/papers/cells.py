"""Numbers as the cells of the papers' tables.

A stage that did not run leaves a dash. An accuracy under attack is rounded up, an error under attack down, a bound on
errors up: no cell claims too much.
"""

from __future__ import annotations

import math

from robusteval.analysis import show
from robusteval.analysis.show import Round

NONE = "-"


def percent_cell(share: float, rounding: Round = Round.UP) -> str:
    """0.9312 -> "93.2", as the papers print percentages."""
    return NONE if math.isnan(share) else show.percent(share, rounding).removesuffix(" %")


def fraction(share: float) -> str:
    """0.96912 -> "0.970"."""
    return NONE if math.isnan(share) else show.fixed(share, 3, Round.UP)


def counted(text: str, failures: int) -> str:
    """A mean over the images with a witness, with the number of those without."""
    return f"{text} ({failures:,} not found)" if failures else text
