"""Deviation from the linearisation and the largest singular value, against the distance from the image."""

from __future__ import annotations

from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.bands import bands
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot

WAYS = {"random": "random directions", "adversarial": "towards the witness"}
DISTANCE = "L2 distance from the image (pixels in [0, 1])"


def plots(results: Results) -> list[Plot]:
    measured = [stage for stage in measured_stages(results, "linearity") if len(stage.measurements)]
    return [plot for stage in measured for plot in (_deviation(stage), _singular_value(stage))]


def _deviation(stage: MeasuredStage) -> Plot:
    what = _what(stage)
    caption = f"How far the {what} are from their linearisation at the image: its L2 size, the mean over the images."
    title = f"{stage.title}: deviation from linearity (OpNorm, figure 4 left)"
    lines = {f"deviation_{way}": label for way, label in WAYS.items()}
    return bands(stage, "deviation", title, caption, lines, (DISTANCE, "deviation (L2)"), _mark(stage))


def _singular_value(stage: MeasuredStage) -> Plot:
    caption = f"Largest singular value of the Jacobian of the {_what(stage)} there, the mean over the images."
    title = f"{stage.title}: largest singular value over distance (OpNorm, figure 4 right)"
    lines = {f"largest_singular_value_{way}": label for way, label in WAYS.items()}
    return bands(stage, "singular-value", title, caption, lines, (DISTANCE, "largest singular value"), _mark(stage))


def _what(stage: MeasuredStage) -> str:
    return "logits" if stage.settings.get("of") == "logits" else "penultimate features"


def _mark(stage: MeasuredStage) -> tuple[str, str] | None:
    return ("witness_distance", f"median witness of {stage.attack}") if stage.settings.get("witnesses") else None


CHAPTER = Chapter("linearity", "Linearity", plots)
