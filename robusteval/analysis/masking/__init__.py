"""Flags of gradient masking, each with its evidence, from the tables of a run alone."""

from __future__ import annotations

from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.attacked import Attacked
from robusteval.analysis.masking.flag import Flag
from robusteval.analysis.masking.probe import Probe
from robusteval.analysis.results import Results
from robusteval.results.manifest import MetricRecord
from robusteval.results.run import Run

__all__ = ["Flag", "flags"]

PROBED = "gradient_size"
"""What a metric measures that looks for the signs."""


def flags(run: Run | Results) -> list[Flag]:
    """All flags that a finished run raises, the serious ones first.

    Without the metric `gradient-masking` only those that follow from the witnesses. Misclassified images, which no
    attack touches, count in none of them.
    """
    results = Results.of(run)
    images = results.images
    right = images.loc[images["correct"], "image_id"]
    if right.empty:
        return []
    attacked = Attacked(results, right)
    raised = [*attacked.contests(), *attacked.ensembles(), *attacked.stalls(), *attacked.unbounded()]
    measurements = results.measurements
    for entry in results.manifest.of(MetricRecord):
        if entry.done and entry.norm is not None and entry.declares(PROBED):
            rows = measurements[(measurements["method"] == entry.name) & measurements["image_id"].isin(right)]
            raised += [*Probe(entry.norm, rows).flags()]
    known = list(masking.SIGNS)
    return sorted(raised, key=lambda flag: (flag.severity != "serious", known.index(flag.name)))
