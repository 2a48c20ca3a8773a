"""Figures that overlay models: panels of curves, means over the images with their standard errors, a colour a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.metrics.measured import MeasuredStage
from robusteval.reports.figures.drawing import COLOURS, FAINT, Plot, legend_height, share_axis
from robusteval.results.records import MetricRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENOUGH = 0.5
"""Drawn where at least this share of the images has a value, of where most have: the rest is in the data only."""
MARKERS_AFTER = ("", "o", "s", "^", "D")
"""Of the models of the first round of colours, of the second, and so on."""


@dataclass(frozen=True)
class Panel:
    """Curves of quantities of one stage against `at`: which dashes each has; its title and axes."""

    label: str
    """Of the stage in the protocol."""
    dashes: Mapping[str, str]
    """Quantity -> dashes, such as "-"."""
    title: str
    x: str
    y: str
    logarithmic: bool = False
    shares: bool = False


def measured(model: ByLabel, label: str) -> MeasuredStage | None:
    """The stage of a metric by its label; None where it did not run."""
    record = model.stage(label)
    return MeasuredStage(model, label, model.titles[label], record) if isinstance(record, MetricRecord) else None


def colour_and_marker(i: int) -> tuple[str, str]:
    """Of the i-th model: dashes are the quantities'."""
    return COLOURS[i % len(COLOURS)], MARKERS_AFTER[i // len(COLOURS) % len(MARKERS_AFTER)]


def overlay(
    models: Sequence[ByLabel], name: str, title: str, caption: str, panels: Sequence[Panel], keys: Mapping[str, str]
) -> list[Plot]:
    """One figure of panels side by side; none where no model has any of it. `keys` say what each kind of dashes is."""
    parts = [_means(model, panel) for model in models for panel in panels]
    data = pd.concat(parts, ignore_index=True)
    if data.empty:
        return []

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import NullFormatter, StrMethodFormatter

        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            for i, model in enumerate(models):
                _lines(axes, data[(data["model"] == model.name) & (data["panel"] == panel.title)], panel, i)
            axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
            if panel.shares:
                share_axis(axes)
                axes.set_ylim(data.loc[data["panel"] == panel.title, "mean"].min() - 0.05, 1.01)
            elif panel.logarithmic:
                axes.set_yscale("log")
                low, high = axes.get_ylim()
                axes.set_ylim(min(low, high / 20), high)  # a decade and more, so that there are numbers at the axis
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            else:
                axes.set_ylim(0, None)
        models_legend(figure, [model.name for model in models], keys)

    caption = f"{caption} Means over the images; shaded, their standard errors."
    height = 2.9 + legend_height([*(model.name for model in models), *keys])
    return [Plot(name, title, caption, data, draw, height)]


def _means(model: ByLabel, panel: Panel) -> pd.DataFrame:
    stage = measured(model, panel.label)
    columns = ["quantity", "at", "mean", "standard_error", "images"]
    table = pd.DataFrame(columns=columns) if stage is None else stage.means(tuple(panel.dashes))[columns]
    return table.assign(model=model.name, panel=panel.title)[["model", "panel", *columns]]


def _lines(axes: Axes, data: pd.DataFrame, panel: Panel, i: int) -> None:
    colour, marker = colour_and_marker(i)
    for quantity, dashes in panel.dashes.items():
        line = data[data["quantity"] == quantity]
        line = line[line["images"] >= ENOUGH * line["images"].max()]
        # Values of rounding would stretch a logarithmic axis over all that is to be seen.
        line = line[line["mean"] > 1e-4 * line["mean"].max()] if panel.logarithmic else line
        if len(line):
            at, mean, error = (line[key].astype(float) for key in ("at", "mean", "standard_error"))
            low = (mean - error).clip(lower=0.5 * mean) if panel.logarithmic else mean - error
            axes.fill_between(at, low, mean + error, color=colour, alpha=0.15, lw=0)
            every = max(1, len(line) // 8)
            axes.plot(at, mean, color=colour, ls=dashes, lw=1.4, marker=marker, ms=3, markevery=every)


def models_legend(figure: Figure, names: Sequence[str], keys: Mapping[str, str]) -> None:
    """A colour for each model, then what the dashes are, below the panels."""
    from matplotlib.lines import Line2D

    looks = [colour_and_marker(i) for i in range(len(names))]
    lines = [Line2D([], [], color=colour, marker=marker, ms=3, lw=1.8) for colour, marker in looks]
    lines += [Line2D([], [], color=FAINT, ls=dashes, lw=1.4) for dashes in keys.values()]
    labels = [*names, *keys]
    longest = max(map(len, labels))
    columns = 3 if longest <= 26 else 2 if longest <= 44 else 1
    figure.legend(lines, labels, loc="outside lower center", ncols=columns, handlelength=2.6)
