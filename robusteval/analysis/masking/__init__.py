"""Flags of gradient masking, each with its evidence, from the tables of a run alone."""

from __future__ import annotations

from dataclasses import replace

from robusteval.analysis.masking import signs as masking
from robusteval.analysis.masking.attacked import Attacked
from robusteval.analysis.masking.behaviour import Observed
from robusteval.analysis.masking.flag import Flag
from robusteval.analysis.masking.probe import Probe
from robusteval.analysis.results import Results
from robusteval.results.run import Run

__all__ = ["Flag", "checked", "flags"]

PROBED = "gradient_size"
"""What a metric measures that looks for the signs."""


def flags(run: Run | Results) -> list[Flag]:
    """All flags that a finished run raises, the serious ones first.

    Without the metric `gradient-masking` only those that follow from the witnesses. Misclassified images, which no
    attack touches, count in none of them.
    """
    results = Results.of(run)
    raised = [*Observed(results).flags()]
    right = results.images["image_id"][results.correct]
    if right.empty:
        return _in_order(raised)
    attacked = Attacked(results, right)
    raised += [*attacked.contests(), *attacked.ensembles(), *attacked.stalls(), *attacked.unbounded()]
    for entry in results.metrics_ran:
        if entry.norm is not None and entry.declares(PROBED):
            raised += [*Probe(entry.norm, results, entry.name).flags()]
    return _in_order(raised)


def checked(run: Run | Results) -> bool:
    """Whether the signs of gradient masking were looked for: by the metric `gradient-masking`, or by an attack that
    uses no gradients of the model beside one that does, at an equal budget."""
    results = Results.of(run)
    right = results.images["image_id"][results.correct]
    probed = any(e.norm is not None and e.declares(PROBED) for e in results.metrics_ran)
    return probed or (not right.empty and Attacked(results, right).compared())


def _in_order(raised: list[Flag]) -> list[Flag]:
    """The serious ones first, and each sign once: of a cause what was seen first, which says it all, of others all that
    was seen."""
    known, once = list(masking.SIGNS), dict[str, Flag]()
    for found in raised:
        earlier = once.setdefault(found.name, found)
        if earlier is not found and not found.cause:
            once[found.name] = replace(earlier, evidence=f"{earlier.evidence} {found.evidence}")
    return sorted(once.values(), key=lambda flag: (flag.severity != "serious", known.index(flag.name)))
