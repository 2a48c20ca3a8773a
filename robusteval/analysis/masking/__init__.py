"""Flags of gradient masking, each with its evidence, from the tables of a run alone."""

from __future__ import annotations

from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.attacked import Attacked
from robusteval.analysis.masking.flag import Flag
from robusteval.analysis.masking.probe import Probe
from robusteval.analysis.results import Results
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
    right = results.images["image_id"][results.correct]
    if right.empty:
        return []
    attacked = Attacked(results, right)
    raised = [*attacked.contests(), *attacked.ensembles(), *attacked.stalls(), *attacked.unbounded()]
    for entry in results.metrics_ran:
        if entry.norm is not None and entry.declares(PROBED):
            rows = results.rows("measurements", entry.name)
            raised += [*Probe(entry.norm, rows[rows["image_id"].isin(right)]).flags()]
    known = list(masking.SIGNS)
    return sorted(raised, key=lambda flag: (flag.severity != "serious", known.index(flag.name)))
