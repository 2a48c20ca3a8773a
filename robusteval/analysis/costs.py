"""What each stage of a run took, and what it achieved for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from robusteval.analysis import names
from robusteval.analysis.curves import closest, within
from robusteval.analysis.intervals import Median, Proportion, median, proportion
from robusteval.analysis.standing import Budgets
from robusteval.results.run import Run


@dataclass(frozen=True)
class Success:
    """Share of the correctly classified images that one attack fooled within `budget`."""

    budget: float
    share: Proportion


@dataclass(frozen=True)
class Cost:
    """One stage: what it took, in evaluations of one image (summed over the images) and in seconds, and what
    an attack achieved in its own norm."""

    name: str
    title: str
    kind: str
    norm: str | None
    available: bool
    reason: str
    batch_independent: bool
    forwards: float
    backwards: float
    seconds: float
    outside: float | None
    """Share of the seconds that was not spent inside a model; None where that was not measured."""
    successes: tuple[Success, ...]
    median: Median | None
    """Of the witnesses of a minimum-distance attack."""


def costs(run: Run, images: pd.DataFrame, witnesses: pd.DataFrame) -> tuple[Cost, ...]:
    """Of every stage, in the order in which they ran."""
    budgets: Budgets = run.manifest["protocol"]["budgets"]
    titles, found = names.stages(run), []
    ids, right = images["image_id"], images.loc[images["correct"], "image_id"]
    for entry in run.stages():
        name, done, norm = entry["name"], entry["status"] == "done", entry.get("norm") or ""
        successes: tuple[Success, ...] = ()
        middle = None
        if entry["kind"] == "attack" and done:
            distances = closest(witnesses, name, norm, right)
            at = sorted({*budgets.get(norm, []), *entry["budgets"]})
            successes = tuple(Success(b, proportion(within(distances, b))) for b in at if len(right))
            middle = None if entry["fixed_budget"] else median(closest(witnesses, name, norm, ids))
        found.append(
            Cost(
                name=name,
                title=titles[name],
                kind=entry["kind"],
                norm=norm or None,
                available=done,
                reason=entry.get("reason", ""),
                batch_independent=entry.get("batch_independent", True),
                forwards=entry.get("forwards", 0.0),
                backwards=entry.get("backwards", 0.0),
                seconds=entry.get("seconds", 0.0),
                outside=_outside(entry),
                successes=successes,
                median=middle,
            )
        )
    return tuple(found)


def _outside(entry: dict[str, Any]) -> float | None:
    if not entry.get("seconds") or "model_seconds" not in entry:
        return None
    return max(0.0, 1.0 - float(entry["model_seconds"]) / float(entry["seconds"]))
