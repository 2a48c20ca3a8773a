"""Second moments of perturbations, as functions of the displacement of two pixels and as matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.metrics.covariance import (
    channel_pairs,
    functions,
    long_range,
    measured_decay_length,
    perturbation_count,
    within_channels,
)
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.chapters.covariance_matrices import IMAGES, ZETAS, matrices
from robusteval.reports.figures.drawing import FAINT, INK, Plot, legend, legend_height, style
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RGB = ("#d55e00", "#009e73", "#0072b2")
COLUMNS = ["channels", "displacement", "covariance", "standard_error"]


def plots(results: Results) -> list[Plot]:
    found, shape = measured_stages(results, "covariance"), results.manifest.model.input_shape
    return [
        *matrices(found, shape),
        *(_functions(stage, shape[0]) for stage in found),
        *([_beside(found, shape[0])] if found else []),
    ]


def _functions(stage: MeasuredStage, channels: int) -> Plot:
    table = functions(stage, channels)
    names = [_pair(c, d, channels) for c, d in zip(table["first"], table["second"], strict=True)]
    data = table.assign(channels=names, within=table["first"] == table["second"])
    sides = [data[data["within"]], data[~data["within"]]] if channels > 1 else [data]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
        for axes, rows, title in zip(grid, sides, ("within a channel", "across channels"), strict=False):
            for i, (label, line) in enumerate(rows.groupby("channels", sort=False)):
                look = (_RGB[i], "-") if channels == 3 and line["within"].all() else style(i)
                _line(axes, line, look, str(label))
            _decayed(axes)
            axes.set_xlabel("displacement (pixels)")
            if channels > 1:
                axes.set_title(title)
                axes.legend(loc="upper right")
        grid[0].set_ylabel("covariance, relative")

    caption = (
        f"Mean product of the perturbations of two pixels by {stage.attack}, against their distance, over the mean "
        "variance of a channel, with its standard error over the images. The dotted line is 1/e."
    )
    title = f"{stage.title} of {stage.attack} (SGR, figure 2)"
    return Plot(f"covariance-{stage.label}", title, caption, data[COLUMNS], draw)


def _line(axes: Axes, line: pd.DataFrame, look: tuple[str, str], label: str) -> None:
    colour, dash = look
    low, high = (line["covariance"] + s * line["standard_error"] for s in (-1, 1))
    axes.fill_between(line["displacement"], low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(line["displacement"], line["covariance"], "o", ls=dash, ms=2.5, lw=1.3, color=colour, label=label)


def _decayed(axes: Axes) -> None:
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.axhline(np.exp(-1), color=FAINT, lw=0.9, ls=":")
    axes.set_xlim(0, None)


def _beside(found: list[MeasuredStage], channels: int) -> Plot:
    measured = {stage.attack: within_channels(stage, channels) for stage in found}
    measured[IMAGES] = within_channels(found[0], channels, "data_")
    at = np.linspace(0, measured[IMAGES]["displacement"].max(), 201)
    noise = {
        f"long-range noise, zeta {zeta}": pd.DataFrame({"displacement": at, "covariance": long_range(at, zeta)})
        for zeta in ZETAS
    }
    lines = measured | noise

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (label, line) in enumerate(lines.items()):
            colour, dash = (INK, "-") if label == IMAGES else style(i)
            look: Any = {"marker": "o", "ms": 2.5, "lw": 1.6} if label in measured else {"lw": 1.1}
            axes.plot(line["displacement"], line["covariance"], color=colour, ls=dash, label=label, **look)
        for zeta in ZETAS:
            axes.annotate(f"{zeta}", (zeta, np.exp(-1)), color=FAINT, fontsize=8, ha="left", va="bottom")
        _decayed(axes)
        axes.set(xlabel="displacement (pixels)", ylabel="covariance, relative")
        legend(figure, axes)

    caption = (
        "Covariance within a channel, the mean over the channels, over its value at 0: of perturbations, of the images "
        "less their mean image, and of SGR's long-range correlated noise, exp(-r / zeta). The dotted line is 1/e: "
        "where a line crosses it is its decay length."
    )
    data = pd.concat([line.assign(line=label) for label, line in lines.items()], ignore_index=True)
    title = "Covariance functions of perturbations, images and long-range noise (SGR, sections 4.2 and 4.3)"
    columns = ["line", "displacement", "covariance"]
    return Plot("covariance-functions", title, caption, data[columns], draw, 3.0 + legend_height(lines))


def grids(results: Results) -> list[Grid]:
    channels = results.manifest.model.input_shape[0]
    rows = [
        [stage.attack, _pair(c, d, channels), f"{perturbation_count(stage):,}"]
        + [_length(measured_decay_length(stage, c, d, prefix)) for prefix in ("", "data_")]
        for stage in measured_stages(results, "covariance")
        for c, d in channel_pairs(channels)
    ]
    note = (
        "Displacement in pixels at which the covariance has fallen to 1/e of its value at 0 (SGR, footnote 5); none "
        "where it does not within the image, or is not above 0 there."
    )
    headings = ["Attack", "channels", "witnesses", "decay length", "of the images"]
    return [Grid("Decay lengths (SGR, figures 1 and 2)", headings, rows, text=2, note=note)] if rows else []


def _length(length: float | None) -> str:
    return "none" if length is None else show.fixed(length, 2)


def _pair(c: int, d: int, channels: int) -> str:
    known = {1: ("grey",), 3: ("red", "green", "blue")}.get(channels, [str(i + 1) for i in range(channels)])
    return known[c] if c == d else f"{known[c]} and {known[d]}"


CHAPTER = Chapter("covariance", "Covariance of perturbations", plots, grids)
