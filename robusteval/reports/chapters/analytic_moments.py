"""The analytic expected output under noise: its class and its error against Monte Carlo."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.metrics.moments import AGREES, agreements
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, DASHES, MARKERS, Plot, legend, legend_height, share_axis
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERRORS = ("output_error", "clean_error", "output_uncertainty", "mean_error", "mean_uncertainty")
COLUMNS = ["output_error", "clean_error", "output_uncertainty", "mean_error", "deviation_error"]


def plots(results: Results) -> list[Plot]:
    return [_surrogate(stage) for stage in measured_stages(results, "analytic-moments") if len(stage.measured)]


def grids(results: Results) -> list[Grid]:
    rows = []
    for stage in measured_stages(results, "analytic-moments"):
        shares = agreements(stage).set_index(["quantity", "sigma"])
        errors = stage.means(COLUMNS).set_index(["quantity", "at"])["mean"]
        for sigma in sorted(stage.measured["at"].unique()):
            own, clean = (shares.loc[quantity, sigma] for quantity in AGREES)
            told = [show.percent(own["share"]), show.percents(own["low"], own["high"]), show.percent(clean["share"])]
            rows.append(
                [
                    stage.title,
                    f"{sigma:g}",
                    *(told if own["images"] else ["-", "-", "-"]),
                    f"{int(own['open']):,}",
                    *(show.significant(float(errors.get((quantity, sigma), math.nan))) for quantity in COLUMNS),
                ]
            )
    headings = ["Stage", "sigma", "same class as Monte Carlo", "95 % interval", "clean class the same", "left open"]
    headings += [
        "error of the output",
        "of the clean output",
        "of Monte Carlo",
        "mean after ReLU",
        "deviation after ReLU",
    ]
    note = (
        "Expected logits under Gaussian noise by one pass of the mean after the first ReLU (eq. 3), against Monte "
        "Carlo. Errors are relative, in L2, and means over the images. Left open: images whose noisy copies do not "
        "tell whether the classes are the same; the shares are of the others. Mean and deviation after the ReLU are "
        "exact by theorem 1: what they differ by is the error of Monte Carlo."
    )
    return [Grid("Analytic expected output (Moments, theorem 1 and eq. 3)", headings, rows, note=note)] if rows else []


def _surrogate(stage: MeasuredStage) -> Plot:
    shares = agreements(stage)
    errors = stage.means(ERRORS).rename(columns={"at": "sigma"})

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for i, quantity in enumerate(AGREES):
            curve = shares[(shares["quantity"] == quantity) & (shares["images"] > 0)]
            left.fill_between(curve["sigma"], curve["low"], curve["high"], color=COLOURS[i], alpha=0.15, lw=0)
            left.plot(curve["sigma"], curve["share"], MARKERS[i] + DASHES[i], ms=3.5, lw=1.4, color=COLOURS[i])
        for i, (quantity, label) in enumerate(stage.titles(ERRORS).items()):
            curve = errors[errors["quantity"] == quantity]
            dashes = ":" if quantity.endswith("uncertainty") else DASHES[i % 3]
            line: Any = {"fmt": MARKERS[i] + dashes, "ms": 3.5, "lw": 1.4, "color": COLOURS[i], "label": label}
            right.errorbar(curve["sigma"], curve["mean"], yerr=curve["standard_error"], capsize=2, **line)
        share_axis(left)
        left.set(
            xlabel="sigma (pixels in [0, 1])", ylabel="images of the same class", title="Class, against Monte Carlo"
        )
        right.set(xlabel="sigma (pixels in [0, 1])", ylabel="relative L2 error", ylim=(0, None), title="Error")
        legend(figure, right)

    caption = (
        "How well one pass of the analytic mean after the first ReLU stands for the expected output under Gaussian "
        "noise: share of images whose class is that of the Monte Carlo mean, with its 95 % band, and relative errors "
        "against it, means with standard errors. The image itself is the surrogate to beat; dotted is what Monte Carlo "
        "alone is off by."
    )
    data = pd.concat([shares, errors], ignore_index=True)
    title = f"{stage.title}: expected output under noise (Moments, theorem 1)"
    return Plot(
        f"moments-{stage.label}", title, caption, data, draw, height=3.4 + legend_height(stage.titles(ERRORS).values())
    )


CHAPTER = Chapter("analytic-moments", "Analytic moments", plots, grids)
