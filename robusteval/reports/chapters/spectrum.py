"""Mean singular values of the Jacobian, against their rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.chapters.ranks import curves, ranks_table
from robusteval.reports.figures.drawing import Plot, legend
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRA = ("singular_value", "singular_value_adversarial", "singular_value_twin")
TRAINED = SPECTRA[:2]
FLOOR = 1e-5
"""Where the logarithmic axis ends, of the largest value: single precision leaves nothing of what is smaller."""


def plots(results: Results) -> list[Plot]:
    return [_spectrum(stage) for stage in measured_stages(results, "jacobian-spectrum") if len(stage.measured)]


def grids(results: Results) -> list[Grid]:
    return [_table(stage) for stage in measured_stages(results, "jacobian-spectrum") if len(stage.measured)]


def _spectrum(stage: MeasuredStage) -> Plot:
    data = stage.means(SPECTRA).rename(columns={"at": "rank"})

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        left, right = figure.subplots(1, 2)
        curves(left, data, stage.titles(TRAINED))
        left.set(ylim=(0, None), ylabel=f"singular value ({_of(stage)} per pixel unit)")
        curves(right, data, stage.titles(SPECTRA))
        top = float(data["mean"].max())
        # A network that lets no gradient through has zeros alone, which have no logarithm.
        if top > 0:
            right.set(yscale="log", ylim=(FLOOR * top, 2 * top), ylabel="the same, logarithmic")
            right.yaxis.set_major_locator(LogLocator(numticks=8))
            right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        legend(figure, right)

    caption = (
        f"How much the {_of(stage)} stretch small changes of the pixels: mean singular value of their Jacobian, with "
        "its standard error over the images as a band. Random weights: the same network before any training, whose "
        "scale is another; compare how the curves fall."
    )
    return Plot(f"spectrum-{stage.label}", f"{stage.title} (OpNorm, figure 2 left)", caption, data, draw)


def _table(stage: MeasuredStage) -> Grid:
    data = stage.means(SPECTRA).rename(columns={"at": "rank"})
    note = "Mean over the images with its standard error. Rank 1 is the local L2 operator norm."
    return ranks_table(f"{stage.title}: singular values", data, stage.titles(SPECTRA), "Jacobian", note)


def _of(stage: MeasuredStage) -> str:
    return {"logits": "logits"}.get(stage.settings.get("of", ""), "features")


CHAPTER = Chapter("jacobian-spectrum", "Spectrum", plots, grids)
