"""Runs, results and curves as matplotlib axes, for notebooks and papers. Each function draws on the axes that it is
given, or on those of a new figure, and returns them. Upper bounds and lower bounds keep their names.

A figure for a paper: `plot_run(run, "linf").figure.savefig("curve.pdf")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names
from robusteval.analysis.curves import curve
from robusteval.analysis.intervals import mean
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.core.norms import BALLS
from robusteval.reports.figures.drawing import COLOURS, FAINT, drawn_on, share_axis
from robusteval.reports.figures.steps import draw_steps, held, norm_named, places_to, reach_of, unbroken
from robusteval.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from robusteval.attacks.result import AttackResult
    from robusteval.certify.base import CertificateResult
    from robusteval.metrics.base import MetricResult


def plot_curve(points: pd.DataFrame, ax: Axes | None = None, label: str | None = None, line: int = 0) -> Axes:
    """A curve of accuracy_curve (columns budget, share, low, high) or certified_curve (radius, share, low, high) as
    steps with its 95 % band, in the `line`-th look of ours. Call it again on the axes that it returned to compare.

    Raises UserError for a table without these columns.
    """
    missing = {"share", "low", "high"} - set(points) or {"budget", "radius"}.isdisjoint(points)
    if missing:
        raise UserError(
            f"expected the columns budget or radius, share, low and high, got {', '.join(map(str, points))}"
        )
    with drawn_on(ax) as axes:
        draw_steps(axes, points, label, line)
        share_axis(axes)
        axes.set_xlim(left=0)
        axes.set_ylabel("share of images")
        if label:
            axes.legend()
        return axes


def plot_run(run: Run | Results, norm: str | None = None, ax: Axes | None = None) -> Axes:
    """Accuracy of a finished run against distance in `norm`, by default the first of its protocol: at most the share
    that no attack broke, at least the share that is proven; between them, in grey, it is open. Dotted: the budgets.

    Raises UserError where nothing was attacked or proven in that norm.
    """
    results = Results.of(run)
    budgets = results.manifest.protocol.budgets
    asked = norm_named(norm) if norm else next(iter(budgets), results.norms[0])
    column = f"proof_{asked}"
    proof = results.columns("bounds", [column])[column].to_numpy(np.float64) if asked in BALLS else np.zeros(0)
    attacked, proven = asked in results.attacked, bool((proof > 0).any())
    if not attacked and not proven:
        raise UserError(f"expected a norm in which something was attacked or proven, got {asked}")
    far = results.distances(asked)
    radii = np.where(results.correct, proof, -1.0) if proven else proof
    end = reach_of(np.append(far if attacked else [], proof), budgets.get(asked, ()))
    with drawn_on(ax) as axes:
        if attacked and proven:
            at = np.unique(np.clip(np.concatenate([[0.0, end], far, proof]), 0.0, end))
            least = held(radii, np.append(at[1:], end))["share"]
            axes.fill_between(
                at, least, curve(far, at.tolist())["share"], step="post", color=FAINT, alpha=0.2, lw=0, label="open"
            )
        if attacked:
            draw_steps(axes, unbroken(far, end), "under attack, at most", 0)
        if proven:
            draw_steps(axes, held(radii, places_to(proof, end)), "proven, at least", 2)
        for budget in budgets.get(asked, ()):
            axes.axvline(budget, color=FAINT, ls=":", lw=1)
        axes.set(xlim=(0, end), xlabel=names.axis(asked), ylabel="images right", title=results.manifest.model.name)
        share_axis(axes)
        axes.legend()
        return axes


def plot_attack(result: AttackResult, norm: str | None = None, ax: Axes | None = None) -> Axes:
    """The share of images that an attack did not break against distance in `norm`, by default its own, with the 95 %
    band over images. Beyond the budget of the attack nothing was tried."""
    asked = norm_named(norm) if norm else result.norm
    far = result.distances[asked].cpu().numpy()
    end = reach_of(far, ())
    with drawn_on(ax) as axes:
        draw_steps(axes, unbroken(far, end), result.attack, 0)
        axes.set(xlim=(0, end), xlabel=names.axis(asked), ylabel="images not broken")
        share_axis(axes)
        axes.legend()
        return axes


def plot_certificate(result: CertificateResult, ax: Axes | None = None) -> Axes:
    """The share of images whose predicted class, right or wrong, has at least each radius, with the 95 % band."""
    radii = np.where(result.abstained.cpu().numpy(), -1.0, result.radius.cpu().numpy())
    end = reach_of(radii, ())
    with drawn_on(ax) as axes:
        draw_steps(axes, held(radii, places_to(radii, end)), result.certificate, 0)
        axes.set(xlim=(0, end), xlabel=f"{result.norm.symbol} radius (pixels in [0, 1])")
        axes.set_ylabel("images with at least that radius")
        share_axis(axes)
        axes.legend()
        return axes


def plot_metric(result: MetricResult, quantity: str | None = None, ax: Axes | None = None) -> Axes:
    """One quantity that a metric measured, by default the first: its mean over the images at each place, with the 95 %
    interval; of the whole set the number itself. Raises UserError for a quantity that it did not measure."""
    images = {key: values.cpu().numpy() for key, values in result.measurements.items()}
    known = list(dict.fromkeys(q for q, _ in (*images, *result.statistics)))
    asked = quantity or next(iter(known), "")
    if asked not in known:
        raise UserError(f"expected a quantity of {', '.join(known) or 'none'}, got '{asked}'")
    at = sorted({place for q, place in (*images, *result.statistics) if q == asked})
    rows = [
        _over_images(images[asked, place]) if (asked, place) in images else (result.statistics[asked, place],) * 3
        for place in at
    ]
    value, low, high = map(np.array, zip(*rows, strict=True))
    with drawn_on(ax) as axes:
        axes.errorbar(at, value, yerr=[value - low, high - value], fmt="o-", color=COLOURS[0], capsize=2, ms=4)
        axes.set(xlabel="at", ylabel=asked.replace("_", " "), title=result.metric)
        return axes


def _over_images(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean and its 95 % interval; without one where a single image has a value."""
    found = mean(values[np.isfinite(values)])
    return (found.value, found.low, found.high) if found.n > 1 else (found.value, found.value, found.value)
