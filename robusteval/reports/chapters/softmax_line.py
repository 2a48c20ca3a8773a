"""Softmax outputs along the lines through images and their witnesses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.metrics.softmax_line import highest_classes, measured_lines
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import FAINT, Plot, legend_height, share_axis, style
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLUMNS = 3
DRAWN, SEEN = 10, 0.02
"""So many classes are drawn at most, those with the largest maxima, and none that stays below this probability."""


def plots(results: Results) -> list[Plot]:
    return [_lines(stage) for stage in measured_stages(results, "softmax-line") if len(stage.measured)]


def _lines(stage: MeasuredStage) -> Plot:
    data, classes = measured_lines(stage), stage.results.classes
    drawn = highest_classes(data, SEEN, DRAWN)
    shown = list(dict.fromkeys(data["image_id"]))
    labels = stage.results.images.set_index("image_id")["label"]
    down = math.ceil(len(shown) / COLUMNS)

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        grid = figure.subplots(down, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, image_id in zip(grid.flat, shown, strict=False):
            own = data[data["image_id"] == image_id]
            for at in (0, 1):
                axes.axvline(at, color=FAINT, lw=0.8, ls=":")
            for i, k in enumerate(drawn):
                colour, dash = style(i)
                line = own[own["class"] == k]
                axes.plot(line["t"], line["probability"], color=colour, ls=dash, lw=1.5)
            axes.set_title(f"{_short(str(image_id))}: {_short(classes[labels[image_id]])}")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
            share_axis(axes)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("softmax")
        figure.supxlabel("t: multiples of the perturbation (0 the image, 1 the perturbed one)", fontsize=9)
        handles = [_handle(i) for i in range(len(drawn))]
        titles = [_short(classes[k]) for k in drawn]
        figure.legend(handles, titles, loc="outside upper center", ncols=5, handlelength=2.4, title="class")

    caption = (
        f"Softmax outputs at the image plus t times its perturbation by {_made_by(stage)}, for the first images that "
        "have one; over each panel the image and its label. Pixels are not clipped on the way. Drawn are the classes "
        f"that reach {show.percent(SEEN)} anywhere, at most {DRAWN}; the data have more."
    )
    title = f"{stage.title}: {_made_by(stage)} (SGR, figure 6)"
    height = 1.1 + 1.55 * down + legend_height([""] * len(drawn))
    return Plot(f"softmax-line-{stage.label}", title, caption, data, draw, height)


def _made_by(stage: MeasuredStage) -> str:
    """What the perturbations are."""
    if stage.settings.get("witnesses"):
        return f"{stage.attack}, closest witnesses"
    return f"PGD at {show.budget(stage.settings['budget'])}"


def _handle(i: int) -> Line2D:
    from matplotlib.lines import Line2D

    colour, dash = style(i)
    return Line2D([], [], color=colour, ls=dash, lw=1.5)


def _short(text: str, limit: int = 18) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def grids(results: Results) -> list[Grid]:
    rows = []
    for stage in measured_stages(results, "softmax-line"):
        values = stage.values("variation")
        if len(values):
            numbers = (values.mean(), values.min(), values.max())
            rows.append([_made_by(stage), f"{len(values):,}", *map(show.significant, numbers)])
    note = (
        "Total variation of the softmax outputs along the whole line: half the sum of the absolute changes of all "
        "classes. 1 is one full change from a class to another; a smooth classifier changes its mind less often."
    )
    headings = ["Perturbation", "images", "mean variation", "smallest", "largest"]
    return [Grid("Variation of the softmax outputs along the line", headings, rows, note=note)] if rows else []


CHAPTER = Chapter("softmax-line", "Softmax along the line", plots, grids)
