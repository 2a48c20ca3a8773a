"""Shares against distance as steps: what was broken, and what holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from robusteval.analysis.curves import curve
from robusteval.analysis.intervals import clopper_pearson
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.reports.figures.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def norm_named(norm: str) -> Norm:
    """Raises UserError for none of ours."""
    if norm not in tuple(Norm):
        raise UserError(f"expected a norm of {', '.join(Norm)}, got '{norm}'")
    return Norm(norm)


def draw_steps(axes: Axes, points: pd.DataFrame, label: str | None, line: int) -> None:
    """A curve as steps: accuracy holds from its budget on, certified accuracy up to its radius."""
    x, where = ("budget", "post") if "budget" in points else ("radius", "pre")
    colour, dash = style(line)
    look: Any = {"where": where, "color": colour, "ls": dash, "lw": 1.6, "label": label}
    band: Any = {"step": where, "color": colour, "alpha": 0.1, "lw": 0}
    axes.step(points[x], points["share"], **look)
    axes.fill_between(points[x], points["low"], points["high"], **band)


def reach_of(reached: ArrayLike, budgets: Iterable[float]) -> float:
    """As far as a figure goes: beyond each budget and nearly all distances."""
    positive = np.asarray(reached, dtype=np.float64)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    return max(1.1 * max(budgets, default=0.0), 1.05 * float(np.quantile(positive, 0.95)) if len(positive) else 1e-9)


def places_to(values: ArrayLike, end: float) -> NDArray[np.float64]:
    """0, the end, and the values between them."""
    return np.unique(np.clip(np.append(np.asarray(values, dtype=np.float64), [0.0, end]), 0.0, end))


def unbroken(far: ArrayLike, end: float) -> pd.DataFrame:
    """The share of distances beyond each, up to the end of the figure."""
    return curve(far, list(places_to(far, end)))


def held(radii: ArrayLike, at: ArrayLike) -> pd.DataFrame:
    """The share of radii of at least each of `at`."""
    ordered, places = np.sort(np.asarray(radii, dtype=np.float64)), np.asarray(at, dtype=np.float64)
    count = len(ordered) - np.searchsorted(ordered, places, side="left")
    low, high = clopper_pearson(count, len(ordered))
    return pd.DataFrame({"radius": places, "share": count / len(ordered), "low": low, "high": high})
