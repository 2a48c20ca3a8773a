"""Distances to another prediction, right or wrong."""

from __future__ import annotations

from robusteval.analysis import show
from robusteval.analysis.intervals import mean
from robusteval.analysis.metrics.measured import measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter, nothing
from robusteval.reports.grid import Grid


def grids(results: Results) -> list[Grid]:
    rows = []
    for stage in measured_stages(results, "prediction-distance"):
        far, relative = stage.values("prediction_distance"), stage.values("relative_distance")
        if len(far):
            numbers = (mean(far, least=0.0), mean(relative, least=0.0))
            shown = [show.significant(number) for m in numbers for number in (m.value, m.low, m.high)]
            rows.append([stage.title, f"{len(far):,}", *shown])
    note = (
        "The smallest change of the prediction that DeepFool found, whatever the label: the mean over the images with "
        "one, with its 95 % interval, and the same over the size of the image, which is DeepFool's rho_adv."
    )
    headings = ["Stage", "images", "mean distance", "from", "to", "relative", "from", "to"]
    return [Grid("Distance to another prediction (SGR, table 1)", headings, rows, note=note)] if rows else []


CHAPTER = Chapter("prediction-distance", "Distance to another prediction", nothing, grids)
