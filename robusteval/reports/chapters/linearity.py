"""Deviation from the linearisation and the largest singular value, against the distance from the image."""

from __future__ import annotations

from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.bands import bands
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot

DEVIATIONS = ("deviation_random", "deviation_adversarial")
SINGULAR_VALUES = ("largest_singular_value_random", "largest_singular_value_adversarial")
DISTANCE = "L2 distance from the image (pixels in [0, 1])"


def plots(results: Results) -> list[Plot]:
    measured = [stage for stage in measured_stages(results, "linearity") if len(stage.measured)]
    return [plot for stage in measured for plot in (_deviation(stage), _singular_value(stage))]


def _deviation(stage: MeasuredStage) -> Plot:
    what = _what(stage)
    caption = f"How far the {what} are from their linearisation at the image: its L2 size, the mean over the images."
    title = f"{stage.title}: deviation from linearity (OpNorm, figure 4 left)"
    return bands(stage, "deviation", title, caption, DEVIATIONS, (DISTANCE, "deviation (L2)"), _mark(stage))


def _singular_value(stage: MeasuredStage) -> Plot:
    caption = f"Largest singular value of the Jacobian of the {_what(stage)} there, the mean over the images."
    title = f"{stage.title}: largest singular value over distance (OpNorm, figure 4 right)"
    axes = (DISTANCE, "largest singular value")
    return bands(stage, "singular-value", title, caption, SINGULAR_VALUES, axes, _mark(stage))


def _what(stage: MeasuredStage) -> str:
    return "logits" if stage.settings.get("of") == "logits" else "penultimate features"


def _mark(stage: MeasuredStage) -> tuple[str, str] | None:
    return ("witness_distance", f"median distance, {stage.attack}") if stage.perturbs else None


CHAPTER = Chapter("linearity", "Linearity", plots)
