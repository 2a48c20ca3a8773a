"""The extreme value fits behind L-bound and omega-bound: maxima, fitted density, estimate."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import genextreme

from robusteval.audit.run import Run
from robusteval.reports import names
from robusteval.reports.drawing import COLOURS, INK, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 3
"""At most so many radii of an omega-bound are shown with their fit."""


def fits(run: Run) -> list[Plot]:
    """A figure for all L-bounds together, and one for each omega-bound."""
    table, titles = run.table("statistics"), names.stages(run)
    entries = [s for s in run.stages("certificate") if s["status"] == "done"]
    rows = {s["name"]: table[table["method"] == s["name"]] for s in entries}
    slopes = {titles[s["name"]]: rows[s["name"]] for s in entries if s["method"] == "l-bound" and len(rows[s["name"]])}
    moduli = [s for s in entries if s["method"] == "omega-bound" and len(rows[s["name"]])]
    return [
        *([_l_bounds(slopes)] if slopes else []),
        *(_omega_bound(s["name"], titles[s["name"]], rows[s["name"]]) for s in moduli),
    ]


def _l_bounds(stages: dict[str, pd.DataFrame]) -> Plot:
    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(stages), squeeze=False)[0]
        for axes, (title, rows) in zip(panels, stages.items(), strict=True):
            estimate = _value(rows, "L", 0)
            _histogram(axes, rows[rows["quantity"] == "maximum"]["value"], _parameters(rows, "gev_", 0), estimate)
            norm = title.replace("L-bound (estimate), ", "")
            axes.set(title=f"{norm}: L = {estimate:.4g}", xlabel="largest gradient norm of a batch")
        panels[0].set_ylabel("density")

    data = pd.concat(stages.values(), ignore_index=True)
    caption = (
        "Largest gradient norm of the loss in each random batch (bars), the extreme value distribution fitted to "
        "them (line; none where the fit could not be made) and the estimated Lipschitz constant L (dashed)."
    )
    return Plot("fits-l-bound", "Extreme value fits of L-bound", caption, data, draw, height=2.7)


def _omega_bound(stage: str, title: str, rows: pd.DataFrame) -> Plot:
    curve = rows[rows["quantity"] == "omega"].sort_values("at")
    radii = curve["at"].to_numpy()
    shown = radii[np.unique(np.linspace(0, len(radii) - 1, min(PANELS, len(radii))).round().astype(int))]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 1 + len(shown), squeeze=False, width_ratios=[1.5, *[1] * len(shown)])[0]
        maxima = rows[rows["quantity"] == "omega_maximum"]
        first = panels[0]
        first.plot(maxima["at"], maxima["value"], "o", ms=2.2, mew=0, alpha=0.35, color=COLOURS[4], label="maxima")
        first.plot(radii, curve["value"], "o-", ms=3.5, color=COLOURS[1], lw=1.6, label="omega")
        first.set(title="omega over eps", xlabel="eps")
        first.legend(loc="upper left")
        for axes, eps in zip(panels[1:], shown, strict=True):
            omega = _value(rows, "omega", eps)
            _histogram(axes, maxima[maxima["at"] == eps]["value"], _parameters(rows, "omega_gev_", eps), omega)
            axes.set(title=f"eps {eps:.3g}\nomega {omega:.3g}", xlabel="departure")
        panels[1].set_ylabel("density")

    caption = (
        "Departure of the loss from its linear model: the estimated modulus omega over the radius, and at some "
        "radii the largest departures of random batches (bars), the fitted distribution (line) and omega (dashed)."
    )
    return Plot(f"fits-{stage}", f"Extreme value fits of {title}", caption, rows, draw, height=2.7)


def _histogram(axes: Axes, maxima: pd.Series[float], gev: tuple[float, float, float], estimate: float) -> None:
    from matplotlib.ticker import MaxNLocator

    values = maxima[np.isfinite(maxima)].to_numpy()
    if not len(values):
        return
    axes.hist(values, bins="auto" if np.ptp(values) > 0 else 1, density=True, color=COLOURS[4], alpha=0.6)
    right = float(np.max([v for v in (estimate, values.max()) if np.isfinite(v)]))
    pad = 0.08 * (right - values.min()) or 0.1
    if np.isfinite(gev).all():
        x = np.linspace(values.min() - pad, right + pad, 300)
        axes.plot(x, genextreme.pdf(x, *gev), color=COLOURS[0], lw=1.6)
    axes.set_xlim(values.min() - pad, right + pad)
    if np.isfinite(estimate):
        axes.axvline(estimate, color=INK, lw=1.2, ls="--")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(2))


def _parameters(rows: pd.DataFrame, prefix: str, at: float) -> tuple[float, float, float]:
    shape, loc, scale = map(partial(_value, rows, at=at), (f"{prefix}{p}" for p in ("shape", "loc", "scale")))
    return shape, loc, scale


def _value(rows: pd.DataFrame, quantity: str, at: float) -> float:
    found: Any = rows[(rows["quantity"] == quantity) & (rows["at"] == at)]["value"]
    return float(found.iloc[0]) if len(found) else float("nan")
