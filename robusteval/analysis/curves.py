"""Accuracy against budget, on any grid, with 95 % bands; and the area under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from robusteval.analysis.intervals import Mean, clopper_pearson, mean_share
from robusteval.analysis.results import Results
from robusteval.core.norms import BUDGET_TOLERANCE
from robusteval.results.run import Run

T = TypeVar("T", bound=np.generic)

STEPS = 2000
"""Of a curve with more steps a figure and its data have only so many, evenly along it."""


def accuracy_curve(
    run: Run | Results, norm: str, budgets: Sequence[float] | None = None, stage: str | None = None
) -> pd.DataFrame:
    """Columns budget, share, low, high: the share of all images without a witness within each budget in `norm`
    (l0, l1, l2, linf), by the attack `stage`, or by any attack if it is None, with its 95 % interval.

    Without `budgets`, every budget at which the share changes. Beyond the largest budget that a fixed-budget attack
    was given, nothing was tried: there the share is merely at most this.
    """
    results = Results.of(run)
    return curve(results.distances(norm, stage), budgets)


def within(distances: ArrayLike, budget: ArrayLike) -> NDArray[np.bool_]:
    """Which witnesses lie within a budget, one for all or one for each."""
    return np.asarray(distances, dtype=np.float64) <= np.asarray(budget, dtype=np.float64) * (1 + BUDGET_TOLERANCE)


def curve(distances: ArrayLike, budgets: Sequence[float] | None = None, limit: int | None = None) -> pd.DataFrame:
    """The share of `distances` (n,) above each budget; without budgets, above 0 and every finite distance, or `limit`
    of these, evenly from the smallest to the largest: their steps are of a share of 1 / limit."""
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    if budgets is None:
        at = evenly(np.unique(np.append(ordered[np.isfinite(ordered)], 0.0)), limit)
        within = np.searchsorted(ordered, at, side="right")
    else:
        at = np.asarray(budgets, dtype=np.float64)
        # A failure lies beyond every budget, an infinite one too.
        most = np.minimum(at * (1 + BUDGET_TOLERANCE), np.finfo(np.float64).max)
        within = np.searchsorted(ordered, most, side="right")
    standing = len(ordered) - within
    low, high = clopper_pearson(standing, len(ordered))
    return pd.DataFrame({"budget": at, "share": standing / len(ordered), "low": low, "high": high})


def evenly(values: NDArray[T], most: int | None) -> NDArray[T]:
    """Of values in their order at most so many, from the first to the last; all for None."""
    if most is None or len(values) <= most:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(np.int64))]


def area(distances: ArrayLike, limit: float) -> Mean:
    """The mean accuracy over budgets in [0, limit] (SGR's averaged accuracy), with its 95 % interval.

    An image counts at the budgets below its distance d, so that the integral of the step function is exactly the
    mean of min(d, limit) / limit.
    """
    return mean_share(np.minimum(np.asarray(distances, dtype=np.float64) / limit, 1.0))
