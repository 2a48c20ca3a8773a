"""Predictions kept under noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.metrics.noise import AREAS, areas, shares
from robusteval.analysis.non_finite import unanswered
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, MARKERS, Plot, share_axis
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plots(results: Results) -> list[Plot]:
    """Share of images whose prediction survives noise, against its standard deviation."""
    return [_kept(stage) for stage in measured_stages(results, "noise") if len(stage.measured)]


def grids(results: Results) -> list[Grid]:
    """The areas under these curves."""
    rows = []
    for stage in measured_stages(results, "noise"):
        labels = stage.titles(AREAS)
        for quantity, area in areas(stage).items():
            shown = [show.percent(area.value), show.percents(area.low, area.high), f"{area.n:,}"]
            rows.append([stage.title, labels[quantity], *shown])
    headings = ["Noise", "counted where", "area", "95 % interval", "images"]
    note = (
        "Area under the curve of each image, which is its mean over the noise levels: the paper's GNR. The interval is "
        "never too narrow for a mean over images drawn like these."
    )
    lost = (unanswered(results, stage.label) for stage in measured_stages(results, "noise"))
    note = " ".join([note, *(str(one) for one in lost if one)])
    return [Grid("Predictions kept under noise (Moments, figure 6)", headings, rows, 2, note)] if rows else []


def _kept(stage: MeasuredStage) -> Plot:
    data = shares(stage)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (quantity, label) in enumerate(stage.titles(AREAS).items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                axes.fill_between(curve["sigma"], curve["low"], curve["high"], color=COLOURS[i], alpha=0.15, lw=0)
                line = f"{MARKERS[i]}-"
                axes.plot(curve["sigma"], curve["share"], line, ms=3, lw=1.6, color=COLOURS[i], label=label)
        axes.set(xlabel="sigma, standard deviation of the noise (pixels in [0, 1])", ylabel="images that keep it")
        share_axis(axes)
        figure.legend(loc="outside lower center", ncols=2)

    caption = "Share of images whose clean prediction (right or wrong) survives noise, with its 95 % band."
    title = f"{stage.title}: predictions kept (Moments, figure 6)"
    return Plot(f"noise-{stage.label}", title, caption, data, draw)


CHAPTER = Chapter("noise", "Noise", plots, grids)
