"""How steep and how curved the loss is around each image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.intervals import mean
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, DASHES, Plot, legend, legend_height, share_axis
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLOPES = {"gradient_norm": "exact", "gradient_norm_difference": "by finite difference (eq. 9)"}
ROWS = {
    "gradient_norm": "|grad l|",
    "gradient_norm_difference": "|grad l| by finite difference, h = {at}",
    "curvature": "curvature along the gradient, h = {at}",
    "omega_sampled": "omega({at}), sampled",
    "omega_ascent": "omega({at}), by ascent",
}


def plots(results: Results) -> list[Plot]:
    return [_distributions(stage) for stage in measured_stages(results, "regularity") if len(stage.measurements)]


def grids(results: Results) -> list[Grid]:
    rows = []
    for stage in measured_stages(results, "regularity"):
        for quantity, label in ROWS.items():
            own = stage.measurements[stage.measurements["quantity"] == quantity]
            for at in sorted(own["at"].unique()):
                values = own.loc[own["at"] == at, "value"]
                middle = mean(values, least=-math.inf if quantity == "curvature" else 0.0)
                numbers = [middle.value, middle.low, middle.high, float(values.max())]
                average, low, high, largest = map(show.significant, numbers)
                text = label.format(at=show.budget(at))
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
    parts = []
    for quantity in (*SLOPES, "curvature"):
        values = np.sort(stage.measurements.loc[stage.measurements["quantity"] == quantity, "value"])
        share = np.arange(1, len(values) + 1) / max(len(values), 1)
        parts.append(pd.DataFrame({"quantity": quantity, "value": values, "share": share}))
    data = pd.concat(parts, ignore_index=True)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for i, (quantity, label) in enumerate(SLOPES.items()):
            curve = data[data["quantity"] == quantity]
            left.step(curve["value"], curve["share"], DASHES[i], where="post", lw=1.6, color=COLOURS[i], label=label)
        curve = data[data["quantity"] == "curvature"]
        right.step(curve["value"], curve["share"], where="post", lw=1.6, color=COLOURS[2])
        for axes, quantities in ((left, [*SLOPES]), (right, ["curvature"])):
            _signed_logarithm(axes, data.loc[data["quantity"].isin(quantities), "value"])
        share_axis(left)
        left.set(xlabel="dual gradient norm (loss per pixel unit)", ylabel="images at or below")
        left.set(title=f"Gradient norm, {norm} changes")
        right.set(xlabel="second derivative (loss per squared pixel unit)", title="Curvature along the gradient")
        legend(figure, left)

    caption = (
        "Share of images whose loss is at most so steep, and at most so curved along its gradient, by finite "
        "differences (section 3.1). The finite-difference norm is that of the paper's training. Axes are logarithmic "
        "but for the values near zero."
    )
    title = f"{stage.title}: gradient norm and curvature (GradReg, table 3 and section 3.1)"
    height = 3.2 + legend_height(SLOPES.values())
    return Plot(f"regularity-{stage.label}", title, caption, data, draw, height=height)


def _signed_logarithm(axes: Axes, values: pd.Series[float]) -> None:
    """An axis that is linear up to a thousandth of the largest value: most images are flat, a few are steep."""
    from matplotlib.ticker import FuncFormatter

    largest = float(values.abs().max()) if len(values) else 0.0
    if largest > 0:
        axes.set_xscale("symlog", linthresh=10 ** (math.ceil(math.log10(largest)) - 3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


CHAPTER = Chapter("regularity", "Regularity", plots, grids)
