"""Clean predictions and attacks judged by one class: an image is right while the model does not give the target.

What stages are given is a view of two classes (models/targeted.py), so that no attack has to know of it and the judge
is the same; the rows that they leave have the classes of the model again. Images of the target itself are not in such
an audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Shard, Stage, unheard
from robusteval.auditing.stages.clean import CleanStage
from robusteval.auditing.stages.every_budget import EveryBudgetStage
from robusteval.auditing.stages.frames import array
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.core.passes import Passes
from robusteval.models.targeted import TARGET, as_others, one_or_others
from robusteval.results.files import Arrays


@dataclass(frozen=True)
class TargetedCleanStage(CleanStage):
    """`predicted` is the target where the model gives it, else the label; margins are over the target alone."""

    target: int = 0

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        return by_target(self.target, context, shard, super().compute)


@dataclass(frozen=True)
class TargetedAttackStage(AttackStage):
    """A witness is of the target class."""

    target: int = 0

    def passes(self, images: int, classes: int) -> Passes | None:
        return super().passes(images, 2)

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        return by_target(self.target, context, shard, super().compute)

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        again = super().recompute
        return by_target(self.target, context, shard, lambda own, some: again(own, some, stored, arrays))


@dataclass(frozen=True)
class TargetedEveryBudgetStage(TargetedAttackStage, EveryBudgetStage):
    """The same at every budget by itself."""


def judged_by_target(stage: Stage, target: int) -> Stage:
    """The stage judged by one class; certificates and metrics speak of the model itself and stay as they are: what
    keeps the class of an image that is not the target's keeps it from the target."""
    if isinstance(stage, AttackStage):
        kind = TargetedEveryBudgetStage if isinstance(stage, EveryBudgetStage) else TargetedAttackStage
        return kind(**vars(stage), target=target)
    return TargetedCleanStage(**vars(stage), target=target) if isinstance(stage, CleanStage) else stage


def by_target(target: int, context: Context, shard: Shard, compute: Callable[[Context, Shard], Part]) -> Part:
    """The part of a shard on the view of two classes, its rows in the classes of the model."""
    sources = tuple(one_or_others(source, target) for source in context.sources)
    own = replace(context, classifier=one_or_others(context.classifier, target), sources=sources)
    part = compute(own, replace(shard, images=as_others(shard.images)))
    labels = dict(zip(shard.images.ids, array(shard.images.labels).tolist(), strict=True))
    label = part.rows["image_id"].map(labels).astype(part.rows["predicted"].dtype)
    rows = part.rows.assign(predicted=label.mask(part.rows["predicted"] == TARGET, target))
    return replace(part, rows=rows.assign(label=label) if "label" in rows else rows)
