"""The extreme value fits behind L-bound and omega-bound: maxima, fitted density, quantiles, return levels, estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import genextreme

from robusteval.analysis.fits import MODULUS, SLOPE, Fitted, fitted, fitted_by, statistic
from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import COLOURS, FAINT, INK, Plot
from robusteval.results.records import CertificateRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 3
"""At most so many radii of an omega-bound are shown with their fit."""
HOW = (
    "Below: the maxima against the quantiles of the fit, on the line if it is right; and over their return period, "
    "with the fit, the estimate (dashed) and 95 % of its quantile's asymptotic distribution (bar, where there is one). "
    "p: the probability of an Anderson-Darling statistic at least as large under the fit, by parametric bootstrap; a "
    "small one says that the fit is wrong."
)


def fits(results: Results) -> list[Plot]:
    """A figure for all L-bounds together, and one for each omega-bound."""
    slopes = fitted_by(results, SLOPE)
    return [
        *([_l_bounds(results, slopes)] if slopes else []),
        *(_omega_bound(results, record) for record in fitted_by(results, MODULUS)),
    ]


def _l_bounds(results: Results, records: Sequence[CertificateRecord]) -> Plot:
    shown = {results.titles[record.name]: fitted(results, record, SLOPE) for record in records}
    data = pd.concat([results.rows("statistics", record.name) for record in records], ignore_index=True)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(3, len(shown), squeeze=False)
        for column, (title, fit) in zip(panels.T, shown.items(), strict=True):
            _column(column, fit, "largest gradient norm of a batch")
            column[0].set_title(f"{title.replace('L-bound (estimate), ', '')}: L = {fit.title}")
        _label(panels[:, 0])

    caption = (
        "Largest gradient norm of the loss in each random batch (bars), the extreme value distribution fitted to them "
        "(line; none where the fit could not be made) and the estimated Lipschitz constant L (dashed), with the "
        f"standard error of its quantile. {HOW}"
    )
    return Plot("fits-l-bound", "Extreme value fits of L-bound", caption, data, draw, height=6.6)


def _omega_bound(results: Results, record: CertificateRecord) -> Plot:
    radii = statistic(results, record, MODULUS.estimate)["at"].to_numpy()
    shown = radii[np.unique(np.linspace(0, len(radii) - 1, min(PANELS, len(radii))).round().astype(int))]

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(3, 1 + len(shown), width_ratios=[1.5, *[1] * len(shown)])
        _moduli(figure.add_subplot(grid[:2, 0]), results, record)
        _p_values(figure.add_subplot(grid[2, 0]), results, record)
        for i, eps in enumerate(shown, start=1):
            fit = fitted(results, record, MODULUS, eps)
            column = np.array([figure.add_subplot(grid[j, i]) for j in range(3)])
            _column(column, fit, "departure")
            column[0].set_title(f"eps {eps:.3g}\n{fit.title}", fontsize=8.5)
            if i == 1:
                _label(column)

    caption = (
        "Departure of the loss from its linear model: the estimated modulus omega over the radius, by sampling alone "
        "and as the bound uses it, and at some radii the largest departures of random batches (bars), the fitted "
        f"distribution (line) and omega (dashed), with the standard error of its quantile. {HOW}"
    )
    title, data = f"Extreme value fits of {results.titles[record.name]}", results.rows("statistics", record.name)
    return Plot(f"fits-{record.name}", title, caption, data, draw, height=6.6)


def _moduli(axes: Axes, results: Results, record: CertificateRecord) -> None:
    maxima = statistic(results, record, MODULUS.maxima)
    axes.plot(maxima["at"], maxima["value"], "o", ms=2.2, mew=0, alpha=0.35, color=COLOURS[4], label="maxima")
    for quantity, colour in (("omega_sampled", COLOURS[2]), (MODULUS.estimate, COLOURS[1])):
        if record.declares(quantity) and len(of := statistic(results, record, quantity)):
            label = record.quantity(quantity).called(quantity)
            axes.plot(of["at"], of["value"], "o-", ms=3.5, color=colour, lw=1.6, label=label)
    axes.set(title="omega over eps", xlabel="eps")
    axes.legend(loc="upper left")


def _p_values(axes: Axes, results: Results, record: CertificateRecord) -> None:
    found = statistic(results, record, "omega_fit_p_value")
    axes.plot(found["at"], found["value"], "o-", ms=3.5, color=COLOURS[0], lw=1.2)
    axes.axhline(0.05, color=FAINT, lw=1, ls=":")
    axes.set(title="p-value of the fit", xlabel="eps", ylim=(0, 1))


def _column(panels: NDArray[Any], fit: Fitted, quantity: str) -> None:
    """Density, quantiles and return levels of one fit, from top to bottom."""
    density, quantiles, levels = panels
    density.set_xlabel(quantity)
    quantiles.set_xlabel("quantile of the fit")
    levels.set_xlabel("return period (batches)")
    if len(fit.maxima):
        _histogram(density, fit)
        _return_levels(levels, fit)
    if len(fit.maxima) and fit.exists:
        _quantiles(quantiles, fit)
    else:
        quantiles.text(0.5, 0.5, "no fit", transform=quantiles.transAxes, ha="center", color=FAINT)
        quantiles.set(xticks=[], yticks=[])


def _label(panels: NDArray[Any]) -> None:
    for axes, text in zip(panels, ("density", "maximum", "maximum"), strict=True):
        axes.set_ylabel(text)


def _histogram(axes: Axes, fit: Fitted) -> None:
    values, estimate = fit.maxima, fit.estimate
    axes.hist(values, bins="auto" if np.ptp(values) > 0 else 1, density=True, color=COLOURS[4], alpha=0.6)
    right = float(np.max([v for v in (estimate, values.max()) if np.isfinite(v)]))
    pad = 0.08 * (right - values.min()) or 0.1
    if fit.exists:
        x = np.linspace(values.min() - pad, right + pad, 300)
        axes.plot(x, genextreme.pdf(x, *fit.gev), color=COLOURS[0], lw=1.6)
    axes.set_xlim(values.min() - pad, right + pad)
    _dashed(axes, fit, vertical=True)
    axes.set_yticks([])
    _few_ticks(axes)


def _quantiles(axes: Axes, fit: Fitted) -> None:
    expected = genextreme.ppf(_positions(fit), *fit.gev)
    ends = [min(expected[0], fit.maxima[0]), max(expected[-1], fit.maxima[-1])]
    axes.plot(ends, ends, color=COLOURS[0], lw=1.2)
    axes.plot(expected, fit.maxima, "o", ms=2.5, mew=0, color=COLOURS[4])
    _few_ticks(axes)


def _return_levels(axes: Axes, fit: Fitted) -> None:
    """The level that is exceeded once in T batches on average, over T."""
    axes.set_xscale("log")
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axes.xaxis.minorticks_off()
    axes.plot(1 / (1 - _positions(fit)), fit.maxima, "o", ms=2.5, mew=0, color=COLOURS[4])
    if fit.exists:
        periods = np.geomspace(1.02, 1 / fit.p, 200)
        axes.plot(periods, genextreme.isf(1 / periods, *fit.gev), color=COLOURS[0], lw=1.6)
        if np.isfinite(fit.error):
            level = genextreme.isf(fit.p, *fit.gev)
            axes.errorbar([1 / fit.p], [level], yerr=[1.96 * fit.error], color=COLOURS[0], capsize=3, lw=1.2)
    axes.set_xlim(0.9, 1.3 / fit.p)
    _dashed(axes, fit, vertical=False)


def _dashed(axes: Axes, fit: Fitted, *, vertical: bool) -> None:
    if np.isfinite(fit.estimate):
        (axes.axvline if vertical else axes.axhline)(fit.estimate, color=INK, lw=1.2, ls="--")


def _few_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(2))


def _positions(fit: Fitted) -> NDArray[np.float64]:
    """Where the ordered maxima lie in (0, 1): i / (n + 1) (Weibull)."""
    n = len(fit.maxima)
    return np.arange(1, n + 1) / (n + 1)
