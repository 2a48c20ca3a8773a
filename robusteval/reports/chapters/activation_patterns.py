"""Unchanged activations against the magnitude of the noise, at the images and at uniform noise."""

from __future__ import annotations

from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.bands import bands
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot

DATA = ("unchanged_at_data", "unchanged_adversarial")
NOISE = ("unchanged_at_noise",)
AXES = ("magnitude of the noise: uniform in plus or minus this (pixels in [0, 1])", "ReLUs unchanged")


def plots(results: Results) -> list[Plot]:
    measured = [stage for stage in measured_stages(results, "activation-patterns") if len(stage.measured)]
    return [plot for stage in measured for plot in (_at_data(stage), _at_noise(stage))]


def _at_data(stage: MeasuredStage) -> Plot:
    caption = "Share of the ReLUs on the same side of their kink at the image and with noise on it."
    mark = None
    if stage.perturbs:
        caption += (
            " Towards the perturbed image the step is as long in L2 as the noise is on average (root mean square)."
        )
        mark = ("witness_magnitude", f"median distance, {stage.attack}")
    figure = "figure 5 left and figure 9" if mark else "figure 5 left"
    title = f"{stage.title} around the images (OpNorm, {figure})"
    return bands(stage, "patterns-data", title, caption, DATA, AXES, mark, shares=True)


def _at_noise(stage: MeasuredStage) -> Plot:
    caption = "The same around points drawn uniformly from all images, far from the data."
    title = f"{stage.title} around noise (OpNorm, figure 5 right)"
    return bands(stage, "patterns-noise", title, caption, NOISE, AXES, shares=True)


CHAPTER = Chapter("activation-patterns", "Activation patterns", plots)
