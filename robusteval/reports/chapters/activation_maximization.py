"""Images that excite each class most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis.metrics.class_images import QUANTITIES, ascent, seen
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.analysis.show import fixed, percent
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, Plot
from robusteval.reports.figures.mosaic import COLUMNS, Mosaic, Tile
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plots(results: Results) -> list[Plot]:
    return [
        plot
        for stage in measured_stages(results, "activation-maximization")
        for plot in (*_images(stage), *_path(stage))
    ]


def grids(results: Results) -> list[Grid]:
    return [_numbers(stage) for stage in measured_stages(results, "activation-maximization")]


def _images(stage: MeasuredStage) -> list[Plot]:
    table, arrays, found = seen(stage), stage.arrays, []
    for first in range(0, len(table) if arrays else 0, COLUMNS):
        data = table.iloc[first : first + COLUMNS].reset_index(drop=True)
        classes, probabilities = data["class"].tolist(), data["probability"].tolist()
        starts = [Tile(arrays[f"start-{k}"]) for k in classes]
        ends = [
            Tile(arrays[f"class-{k}"], percent(p) if pd.notna(p) else "-")
            for k, p in zip(classes, probabilities, strict=True)
        ]
        mosaic = Mosaic([starts, ends], ["noise", "maximised"], data["name"].tolist())
        caption = (
            f"Gaussian noise, and the same after {stage.settings.get('steps', 0):,} projected steps up the logit of "
            "the class; below it the softmax probability of the class." + left_out(stage, len(table))
        )
        title = f"{stage.title} (SmoothKernels, figure 3)"
        name = f"images-{stage.label}" + (f"-{first // COLUMNS + 1}" if first else "")
        found.append(Plot(name, title, caption, data, mosaic.draw, mosaic.height))
    return found


def left_out(stage: MeasuredStage, shown: int) -> str:
    """What a caption says where not all classes are in the figure."""
    total = len(stage.results.classes)
    return f" The first {shown} of {total:,} classes were looked at." if shown < total else ""


def _path(stage: MeasuredStage) -> list[Plot]:
    data = ascent(stage)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(data["steps"], data["mean_logit"], "o-", ms=3.5, lw=1.6, color=COLOURS[0])
        axes.set(xlabel="steps", ylabel="logit, mean over the classes")

    caption = "Whether the ascent was done: a line that still rises at its end asks for more steps."
    title = f"{stage.title}: the logit on the way"
    return [Plot(f"path-{stage.label}", title, caption, data, draw, 2.4)] if len(data) else []


def _numbers(stage: MeasuredStage) -> Grid:
    rows = [
        [row["name"], *(fixed(row[q], 3) if pd.notna(row[q]) else "-" for q in QUANTITIES)]
        for row in seen(stage).to_dict("records")
    ]
    note = (
        "The end is a local maximum at best: a lower bound on the largest logit that pixels in [0, 1] reach. Logits of "
        "two networks have no common scale."
    )
    return Grid(stage.title, ["Class", "logit of the noise", "logit at the end", "probability"], rows, note=note)


CHAPTER = Chapter("activation-maximization", "What the model sees", plots, grids)
