"""The extreme value fits behind L-bound and omega-bound: maxima, fitted density, quantiles, return levels, estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import genextreme

from robusteval.analysis.fits import Fitted, fitted_at
from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import COLOURS, FAINT, INK, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 3
"""At most so many radii of an omega-bound are shown with their fit."""
P = 0.001
"""What an estimate is exceeded with where the run does not say it."""
HOW = (
    "Below: the maxima against the quantiles of the fit, on the line if it is right; and over their return period, "
    "with the fit, the estimate (dashed) and 95 % of its quantile's asymptotic distribution (bar, where there is one). "
    "p: the probability of an Anderson-Darling statistic at least as large under the fit, by parametric bootstrap; a "
    "small one says that the fit is wrong."
)


def fits(results: Results) -> list[Plot]:
    """A figure for all L-bounds together, and one for each omega-bound."""
    table, titles = results.statistics, results.titles
    entries = results.certificates_ran
    rows = {s.name: table[table["method"] == s.name] for s in entries}
    p = {s.name: float(s.settings.get("p", P)) for s in entries}
    slopes = [s for s in entries if s.declares("L") and len(rows[s.name])]
    moduli = [s for s in entries if s.declares("omega_maximum") and len(rows[s.name])]
    shown = {titles[s.name]: fitted_at(rows[s.name], "maximum", "", "L", 0, p[s.name]) for s in slopes}
    return [
        *([_l_bounds(shown, pd.concat([rows[s.name] for s in slopes], ignore_index=True))] if slopes else []),
        *(_omega_bound(s.name, titles[s.name], rows[s.name], p[s.name]) for s in moduli),
    ]


def _l_bounds(shown: dict[str, Fitted], data: pd.DataFrame) -> Plot:
    def draw(figure: Figure) -> None:
        panels = figure.subplots(3, len(shown), squeeze=False)
        for column, (title, fitted) in zip(panels.T, shown.items(), strict=True):
            _column(column, fitted, "largest gradient norm of a batch")
            column[0].set_title(f"{title.replace('L-bound (estimate), ', '')}: L = {fitted.title}")
        _label(panels[:, 0])

    caption = (
        "Largest gradient norm of the loss in each random batch (bars), the extreme value distribution fitted to them "
        "(line; none where the fit could not be made) and the estimated Lipschitz constant L (dashed), with the "
        f"standard error of its quantile. {HOW}"
    )
    return Plot("fits-l-bound", "Extreme value fits of L-bound", caption, data, draw, height=6.6)


def _omega_bound(stage: str, title: str, rows: pd.DataFrame, p: float) -> Plot:
    curve = rows[rows["quantity"] == "omega"].sort_values("at")
    radii = curve["at"].to_numpy()
    shown = radii[np.unique(np.linspace(0, len(radii) - 1, min(PANELS, len(radii))).round().astype(int))]

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(3, 1 + len(shown), width_ratios=[1.5, *[1] * len(shown)])
        _moduli(figure.add_subplot(grid[:2, 0]), rows)
        _p_values(figure.add_subplot(grid[2, 0]), rows)
        for i, eps in enumerate(shown, start=1):
            fitted = fitted_at(rows, "omega_maximum", "omega_", "omega", eps, p)
            column = np.array([figure.add_subplot(grid[j, i]) for j in range(3)])
            _column(column, fitted, "departure")
            column[0].set_title(f"eps {eps:.3g}\n{fitted.title}", fontsize=8.5)
            if i == 1:
                _label(column)

    caption = (
        "Departure of the loss from its linear model: the estimated modulus omega over the radius, by sampling alone "
        "and as the bound uses it, and at some radii the largest departures of random batches (bars), the fitted "
        f"distribution (line) and omega (dashed), with the standard error of its quantile. {HOW}"
    )
    return Plot(f"fits-{stage}", f"Extreme value fits of {title}", caption, rows, draw, height=6.6)


def _moduli(axes: Axes, rows: pd.DataFrame) -> None:
    maxima = rows[rows["quantity"] == "omega_maximum"]
    axes.plot(maxima["at"], maxima["value"], "o", ms=2.2, mew=0, alpha=0.35, color=COLOURS[4], label="maxima")
    for quantity, label, colour in (("omega_sampled", "by sampling", COLOURS[2]), ("omega", "omega", COLOURS[1])):
        of = rows[rows["quantity"] == quantity].sort_values("at")
        if len(of):
            axes.plot(of["at"], of["value"], "o-", ms=3.5, color=colour, lw=1.6, label=label)
    axes.set(title="omega over eps", xlabel="eps")
    axes.legend(loc="upper left")


def _p_values(axes: Axes, rows: pd.DataFrame) -> None:
    found = rows[rows["quantity"] == "omega_fit_p_value"].sort_values("at")
    axes.plot(found["at"], found["value"], "o-", ms=3.5, color=COLOURS[0], lw=1.2)
    axes.axhline(0.05, color=FAINT, lw=1, ls=":")
    axes.set(title="p-value of the fit", xlabel="eps", ylim=(0, 1))


def _column(panels: NDArray[Any], fitted: Fitted, quantity: str) -> None:
    """Density, quantiles and return levels of one fit, from top to bottom."""
    density, quantiles, levels = panels
    density.set_xlabel(quantity)
    quantiles.set_xlabel("quantile of the fit")
    levels.set_xlabel("return period (batches)")
    if len(fitted.maxima):
        _histogram(density, fitted)
        _return_levels(levels, fitted)
    if len(fitted.maxima) and fitted.exists:
        _quantiles(quantiles, fitted)
    else:
        quantiles.text(0.5, 0.5, "no fit", transform=quantiles.transAxes, ha="center", color=FAINT)
        quantiles.set(xticks=[], yticks=[])


def _label(panels: NDArray[Any]) -> None:
    for axes, text in zip(panels, ("density", "maximum", "maximum"), strict=True):
        axes.set_ylabel(text)


def _histogram(axes: Axes, fitted: Fitted) -> None:
    values, estimate = fitted.maxima, fitted.estimate
    axes.hist(values, bins="auto" if np.ptp(values) > 0 else 1, density=True, color=COLOURS[4], alpha=0.6)
    right = float(np.max([v for v in (estimate, values.max()) if np.isfinite(v)]))
    pad = 0.08 * (right - values.min()) or 0.1
    if fitted.exists:
        x = np.linspace(values.min() - pad, right + pad, 300)
        axes.plot(x, genextreme.pdf(x, *fitted.gev), color=COLOURS[0], lw=1.6)
    axes.set_xlim(values.min() - pad, right + pad)
    _dashed(axes, fitted, vertical=True)
    axes.set_yticks([])
    _few_ticks(axes)


def _quantiles(axes: Axes, fitted: Fitted) -> None:
    expected = genextreme.ppf(_positions(fitted), *fitted.gev)
    ends = [min(expected[0], fitted.maxima[0]), max(expected[-1], fitted.maxima[-1])]
    axes.plot(ends, ends, color=COLOURS[0], lw=1.2)
    axes.plot(expected, fitted.maxima, "o", ms=2.5, mew=0, color=COLOURS[4])
    _few_ticks(axes)


def _return_levels(axes: Axes, fitted: Fitted) -> None:
    """The level that is exceeded once in T batches on average, over T."""
    axes.set_xscale("log")
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axes.xaxis.minorticks_off()
    axes.plot(1 / (1 - _positions(fitted)), fitted.maxima, "o", ms=2.5, mew=0, color=COLOURS[4])
    if fitted.exists:
        periods = np.geomspace(1.02, 1 / fitted.p, 200)
        axes.plot(periods, genextreme.isf(1 / periods, *fitted.gev), color=COLOURS[0], lw=1.6)
        if np.isfinite(fitted.error):
            level = genextreme.isf(fitted.p, *fitted.gev)
            axes.errorbar([1 / fitted.p], [level], yerr=[1.96 * fitted.error], color=COLOURS[0], capsize=3, lw=1.2)
    axes.set_xlim(0.9, 1.3 / fitted.p)
    _dashed(axes, fitted, vertical=False)


def _dashed(axes: Axes, fitted: Fitted, *, vertical: bool) -> None:
    if np.isfinite(fitted.estimate):
        (axes.axvline if vertical else axes.axhline)(fitted.estimate, color=INK, lw=1.2, ls="--")


def _few_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(2))


def _positions(fitted: Fitted) -> NDArray[np.float64]:
    """Where the ordered maxima lie in (0, 1): i / (n + 1) (Weibull)."""
    n = len(fitted.maxima)
    return np.arange(1, n + 1) / (n + 1)
