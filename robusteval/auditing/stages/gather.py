"""What a method of the whole set gathers of a shard, before the stage of the method itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch

from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.frames import array, cost_of, statistic_rows
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.models.gathering import Gathered, Gathering
from robusteval.results.files import Arrays
from robusteval.results.records import Cost, StageRecord


@dataclass(frozen=True)
class GatherStage(Stage):
    """Shard by shard, under the name of the method's stage. What is gathered are the arrays of its parts, which have no
    rows."""

    name: str
    method: Gathering
    witnesses_of: str | None = None
    """The attack whose closest witnesses are looked at, too."""
    unavailable: str = ""

    def record(self) -> StageRecord:
        raise NotImplementedError("expected the record of the method's own stage")

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        needed = self.witnesses_of
        return shard if needed is None else replace(shard, witnesses=evidence.witnesses(needed, [shard]))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images = shard.images
        classifier = context.classifier.metered(len(images))
        streams = self.method.each(context.set_streams(self.name, images), images)
        found = self.method.gather(classifier, images, shard.witnesses, streams)
        arrays = {name: array(values) for name, values in found.items()}
        return Part(statistic_rows(self.name, ()), arrays=arrays, cost=cost_of(classifier))

    def joined(self, parts: Sequence[Part]) -> Part:
        cost = sum((part.cost for part in parts), Cost())
        return replace(parts[0], arrays=self.merged(part.arrays for part in parts), cost=cost)

    def merged(self, arrays: Iterable[Arrays]) -> Arrays:
        """What was gathered of several lots of images, in the order of their ids."""
        every = (tensors(some, torch.device("cpu")) for some in arrays)
        return {name: array(values) for name, values in reduce(self.method.merged, every).items()}


def tensors(arrays: Arrays | None, device: torch.device) -> Gathered:
    """What was gathered, as tensors there."""
    assert arrays is not None
    return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
