"""How steep and how curved the loss is around each image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.metrics.regularity import CURVATURE, distributions, spreads_over_images
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, DASHES, Plot, legend, legend_height, share_axis
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLOPES = ("gradient_norm", "gradient_norm_difference")
AT = {"gradient_norm_difference": "h", CURVATURE: "h", "omega_sampled": "eps", "omega_ascent": "eps"}
"""What a quantity was measured at; the gradient norm depends on nothing."""


def plots(results: Results) -> list[Plot]:
    return [_distributions(stage) for stage in measured_stages(results, "regularity") if len(stage.measured)]


def grids(results: Results) -> list[Grid]:
    rows = []
    for stage in measured_stages(results, "regularity"):
        titles = stage.titles([SLOPES[0], *AT])
        for quantity, at, middle, most in spreads_over_images(stage, list(titles)):
            average, low, high, largest = map(show.significant, [middle.value, middle.low, middle.high, most])
            text = titles[quantity] + (f", {AT[quantity]} = {show.budget(at)}" if quantity in AT else "")
            rows.append([stage.title, text, average, f"{low} to {high}", largest, f"{middle.n:,}"])
    headings = ["Stage", "quantity", "mean", "95 % interval", "maximum", "images"]
    note = (
        "Of the loss max over i != c of p_i - p_c, p the softmax outputs (or logits, if the protocol says so). The "
        "paper prints mean and maximum of |grad l|, and of omega the largest over the images: both omega are searches "
        "of each image's own ball, estimates from below."
    )
    return [Grid("Regularity (GradReg, table 3)", headings, rows, text=2, note=note)] if rows else []


def _distributions(stage: MeasuredStage) -> Plot:
    norm = stage.norm.symbol
    data, titles = distributions(stage, [*SLOPES, CURVATURE]), stage.titles(SLOPES)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for i, (quantity, label) in enumerate(titles.items()):
            curve = data[data["quantity"] == quantity]
            left.step(curve["value"], curve["share"], DASHES[i], where="post", lw=1.6, color=COLOURS[i], label=label)
        curve = data[data["quantity"] == CURVATURE]
        right.step(curve["value"], curve["share"], where="post", lw=1.6, color=COLOURS[2])
        for axes, quantities in ((left, [*SLOPES]), (right, [CURVATURE])):
            _signed_logarithm(axes, data.loc[data["quantity"].isin(quantities), "value"])
        share_axis(left)
        left.set(xlabel="dual gradient norm (loss per pixel unit)", ylabel="images at or below")
        left.set(title=f"Gradient norm, {norm} changes")
        right.set(xlabel="second derivative (loss per squared pixel unit)", title="Curvature along the gradient")
        legend(figure, left)

    caption = (
        "Share of images whose loss is at most so steep, and at most so curved along its gradient, by finite "
        "differences (section 3.1). The finite-difference norm (eq. 9) is that of the paper's training. Axes are "
        "logarithmic but for the values near zero."
    )
    title = f"{stage.title}: gradient norm and curvature (GradReg, table 3 and section 3.1)"
    height = 3.2 + legend_height(titles.values())
    return Plot(f"regularity-{stage.label}", title, caption, data, draw, height=height)


def _signed_logarithm(axes: Axes, values: pd.Series[float]) -> None:
    """An axis that is linear up to a thousandth of the largest value: most images are flat, a few are steep."""
    from matplotlib.ticker import FuncFormatter

    largest = float(values.abs().max()) if len(values) else 0.0
    if largest > 0:
        axes.set_xscale("symlog", linthresh=10 ** (math.ceil(math.log10(largest)) - 3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


CHAPTER = Chapter("regularity", "Regularity", plots, grids)
