"""A share of the images as the score of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.intervals import proportion
from robusteval.analysis.leaderboard.board import Score
from robusteval.analysis.show import Round


def share_score(hits: NDArray[np.bool_], rounding: Round) -> Score:
    """Of images (n,) in the order of their ids, those that count, with Clopper and Pearson's 95 % interval."""
    found = proportion(hits)
    return Score(
        value=found.value,
        low=found.low,
        high=found.high,
        shown=show.percent(found.value, rounding),
        interval=show.percents(found.low, found.high),
        images=hits.astype(np.float64),
    )
