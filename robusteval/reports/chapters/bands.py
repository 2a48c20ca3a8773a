"""A figure of means over the images with their standard errors, as OpNorm draws them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from robusteval.analysis.metrics.measured import MeasuredStage
from robusteval.reports.figures.drawing import COLOURS, FAINT, Plot, share_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = "Shaded: the standard error over the images."


def bands(
    stage: MeasuredStage,
    name: str,
    title: str,
    caption: str,
    quantities: Collection[str],
    axes_titles: tuple[str, str],
    mark: tuple[str, str] | None = None,
    shares: bool = False,
) -> Plot:
    """One line for each of the quantities that the stage measured, against `at`; the median of the quantity of `mark`
    (quantity, its name) is a dashed vertical line, where it lies in the figure."""
    data, titles = stage.means(quantities), stage.titles(quantities)
    middle = float(stage.values(mark[0]).median()) if mark else math.nan

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (quantity, label) in enumerate(titles.items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                low, high = (curve["mean"] + sign * curve["standard_error"] for sign in (-1, 1))
                axes.fill_between(curve["at"], low, high, color=COLOURS[i], alpha=0.2, lw=0)
                axes.plot(curve["at"], curve["mean"], "os^"[i % 3] + "-", ms=3, lw=1.6, color=COLOURS[i], label=label)
        first, last = data["at"].min(), data["at"].max()
        if mark and first <= middle <= last:
            axes.axvline(middle, color=FAINT, ls="--", lw=1.2, label=mark[1])
        axes.set(xlabel=axes_titles[0], ylabel=axes_titles[1])
        if shares:
            share_axis(axes)
        else:
            axes.set_ylim(0, None)
        # Where no image has a value there is nothing to show but the axes.
        if len(data):
            margin = 0.015 * (last - first or 1)
            axes.set_xlim(first - margin, last + margin)
            figure.legend(loc="outside lower center", ncols=3)

    return Plot(f"{name}-{stage.label}", title, f"{caption} {SHADES}", data, draw)
