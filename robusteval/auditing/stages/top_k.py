"""Clean predictions and attacks judged by the top k: an image is right while its label is among the k best classes.

GradReg reports the top 5 on ImageNet. The images of a shard are worked through label by label, since what has to be
overtaken differs (models/top_k.py): shards of many labels lose speed, no attack has to know of it, and the judge is the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Shard, Stage, unheard
from robusteval.auditing.stages.clean import CleanStage
from robusteval.auditing.stages.every_budget import EveryBudgetStage
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.models.top_k import top_k
from robusteval.results.files import Arrays
from robusteval.results.records import Cost


@dataclass(frozen=True)
class TopKCleanStage(CleanStage):
    """`predicted` is the label where that is among the top k, else the class that keeps it out."""

    top: int = 1

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        return by_label(self.top, context, shard, super().compute)


@dataclass(frozen=True)
class TopKAttackStage(AttackStage):
    """A witness has its label outside the top k, of the source while it is made, of the audited model to count."""

    top: int = 1

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        return by_label(self.top, context, shard, super().compute)

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        again = super().recompute

        def checked(own: Context, some: Shard) -> Part:
            rows = stored[stored["image_id"].isin(some.images.ids)].reset_index(drop=True)
            return again(own, some, rows, arrays)

        return by_label(self.top, context, shard, checked)


@dataclass(frozen=True)
class TopKEveryBudgetStage(TopKAttackStage, EveryBudgetStage):
    """The same at every budget by itself."""


def judged_by_top(stage: Stage, k: int) -> Stage:
    """The stage judged by the top k; certificates and metrics speak of the model itself and stay as they are: what
    keeps the class of an image keeps it in the top k."""
    if isinstance(stage, AttackStage):
        kind = TopKEveryBudgetStage if isinstance(stage, EveryBudgetStage) else TopKAttackStage
        return kind(**vars(stage), top=k)
    return TopKCleanStage(**vars(stage), top=k) if isinstance(stage, CleanStage) else stage


def by_label(k: int, context: Context, shard: Shard, compute: Callable[[Context, Shard], Part]) -> Part:
    """The part of a shard from those of its images of each label, its rows in the order of the whole: block by block
    (a budget), and in each the images in theirs."""
    place = {image_id: i for i, image_id in enumerate(shard.images.ids)}
    parts, frames = [], []
    for label in shard.images.labels.unique().tolist():
        rows = (shard.images.labels == label).nonzero()[:, 0]
        own = replace(
            context,
            classifier=top_k(context.classifier, k, label),
            sources=tuple(top_k(source, k, label) for source in context.sources),
        )
        part = compute(own, shard.select(rows))
        parts.append(part)
        blocks = torch.arange(len(part.rows)) // len(rows)
        frames.append(part.rows.assign(_block=blocks.numpy(), _place=part.rows["image_id"].map(place)))
    merged = pd.concat(frames, ignore_index=True).sort_values(["_block", "_place"], kind="stable")
    others = {name for part in parts for name in part.others}
    return Part(
        merged.drop(columns=["_block", "_place"]).reset_index(drop=True),
        {name: pd.concat([p.others[name] for p in parts if name in p.others], ignore_index=True) for name in others},
        {key: array for part in parts for key, array in part.arrays.items()},
        sum((part.cost for part in parts), Cost()),
    )
