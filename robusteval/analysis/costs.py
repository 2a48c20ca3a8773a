"""What each stage of a run took, and what it achieved for that."""

from __future__ import annotations

from dataclasses import dataclass

from robusteval.analysis.curves import within
from robusteval.analysis.intervals import Median, Proportion, median, proportion
from robusteval.analysis.results import Results
from robusteval.analysis.standing import asked_radii
from robusteval.core.norms import Norm
from robusteval.results.records import AttackRecord, MethodRecord


@dataclass(frozen=True)
class Success:
    """Share of the correctly classified images that one attack fooled within `budget`, each image's own where that is
    None."""

    budget: float | None
    share: Proportion


@dataclass(frozen=True)
class StageCost:
    """One stage: what it took, in evaluations of the model an image (the mean over the images) and in seconds, and what
    an attack achieved in its own norm."""

    name: str
    title: str
    kind: str
    norm: Norm | None
    available: bool
    reason: str
    batch_independent: bool
    forwards: float
    backwards: float
    seconds: float
    share_of_time: float
    """Of the seconds of all stages."""
    outside: float | None
    """Share of the seconds that was not spent inside a model; None where that was not measured."""
    successes: tuple[Success, ...]
    median: Median | None
    """Of the witnesses of a minimum-distance attack."""


def stage_costs(results: Results) -> tuple[StageCost, ...]:
    """Of every stage, in the order in which they ran."""
    budgets, each = results.manifest.protocol.budgets, results.manifest.protocol.own_budgets
    titles, found, n = results.titles, [], len(results.images)
    total = sum(entry.cost.seconds for entry in results.manifest.stages) or 1.0
    for entry in results.manifest.stages:
        method = entry if isinstance(entry, MethodRecord) else None
        successes: tuple[Success, ...] = ()
        middle = None
        if isinstance(entry, AttackRecord) and entry.done:
            distances = results.distances(entry.norm, entry.name)
            right = distances[results.correct]
            shared = {entry.norm: sorted({*budgets.get(entry.norm, ()), *entry.budgets})}
            own = {entry.norm: each[entry.norm]} if entry.norm in each else {}
            successes = tuple(
                Success(b, proportion(within(right, radii)))
                for _, b, radii in asked_radii(results.images.loc[results.correct, ["image_id"]], shared, own)
                if len(right)
            )
            middle = None if entry.fixed_budget else median(distances)
        found.append(
            StageCost(
                name=entry.name,
                title=titles[entry.name],
                kind=entry.kind,
                norm=method.norm if method else None,
                available=entry.done,
                reason=entry.reason,
                batch_independent=method.batch_independent if method else True,
                forwards=entry.cost.forwards / n,
                backwards=entry.cost.backwards / n,
                seconds=entry.cost.seconds,
                share_of_time=entry.cost.seconds / total,
                outside=entry.cost.outside,
                successes=successes,
                median=middle,
            )
        )
    return tuple(found)
