"""Mean cosine of adversarial perturbations with the singular vectors of the Jacobian, against their rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.metrics.alignment import chance
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.chapters.ranks import curves, ranks_table
from robusteval.reports.figures.drawing import FAINT, Plot, legend
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALIGNED = ("alignment", "alignment_twin")
ENOUGH = 0.5
"""A rank is drawn if so large a share of the images has a singular vector there: the rest is a few odd images."""


def plots(results: Results) -> list[Plot]:
    return [_alignment(stage) for stage in _measured(results)]


def grids(results: Results) -> list[Grid]:
    return [_table(stage) for stage in _measured(results)]


def _measured(results: Results) -> list[MeasuredStage]:
    return [stage for stage in measured_stages(results, "alignment") if len(stage.measured)]


def _alignment(stage: MeasuredStage) -> Plot:
    data, expected = _data(stage), _chance(stage)
    shown = data[data["images"] >= ENOUGH * data["images"].max()]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        curves(axes, shown, stage.titles(ALIGNED))
        axes.axhline(expected, color=FAINT, ls=":", lw=1.4, label="a direction at random")
        axes.set(ylabel="|cosine| with the singular vector", ylim=(0, None))
        legend(figure, axes)

    caption = (
        f"Along which singular vectors of the Jacobian at an image does the perturbation by {stage.attack} point? Mean "
        "magnitude of the cosine, with its standard error over the images as a band. A direction at random would have "
        f"{show.significant(expected)} on average. Ranks at which most images have no singular value above zero are in "
        "the data only."
    )
    return Plot(f"alignment-{stage.label}", f"{_title(stage)} (OpNorm, figure 2 right)", caption, data, draw)


def _table(stage: MeasuredStage) -> Grid:
    note = (
        "Mean over the images with its standard error, of the magnitude of the cosine; a direction at random has "
        f"{show.significant(_chance(stage))} on average."
    )
    return ranks_table(_title(stage), _data(stage), stage.titles(ALIGNED), "Singular vectors", note)


def _title(stage: MeasuredStage) -> str:
    vectors = "logits" if stage.settings.get("of") == "logits" else "features"
    return f"Perturbations by {stage.attack}, and the singular vectors of the {vectors}"


def _data(stage: MeasuredStage) -> pd.DataFrame:
    return stage.means(ALIGNED).rename(columns={"at": "rank"})


def _chance(stage: MeasuredStage) -> float:
    return chance(math.prod(stage.results.manifest.model.input_shape))


CHAPTER = Chapter("alignment", "Alignment", plots, grids)
