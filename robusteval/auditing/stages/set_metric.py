"""Stages of metrics of the whole set: of its images in memory, of what was gathered of them, or of them as they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from robusteval.auditing.stages.base import Context, Evidence, Shard, unheard
from robusteval.auditing.stages.frames import array, cost_of, measurement_rows, statistic_rows
from robusteval.auditing.stages.gather import GatherStage, tensors
from robusteval.auditing.stages.metric import MetricStage
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation, SetMetric
from robusteval.metrics.whole_set import GatheringMetric, StreamedMetric
from robusteval.models.classifier import Classifier


@dataclass(frozen=True)
class SetMetricStage(MetricStage):
    """A metric of the whole set, which is one shard."""

    of_the_set = True

    method: SetMetric

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        if self.method.looks_at is not None:
            shard = replace(shard, images=shard.images.first(self.method.looks_at))
        needed = self.method.witnesses_of
        if needed is None:
            return shard
        found = evidence.witnesses(needed, evidence.shards())
        return replace(shard, witnesses=found[: len(shard.images)])

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        return self._part(
            context,
            shard,
            lambda classifier, streams: self.method.observe(classifier, shard.images, shard.witnesses, streams, step),
        )

    def _part(self, context: Context, shard: Shard, observed: Callable[[Classifier, Streams], Observation]) -> Part:
        images = shard.images
        classifier = context.classifier.metered(len(images))
        seen = observed(classifier, context.set_streams(self.name, images))
        found = [(m.quantity, m.at, m.values) for m in seen.measurements]
        return Part(
            measurement_rows(self.name, images, found, missing=False),
            {"statistics": statistic_rows(self.name, seen.statistics)},
            {name: array(kept) for name, kept in seen.arrays.items()},
            cost_of(classifier),
        )


@dataclass(frozen=True)
class GatheringMetricStage(SetMetricStage):
    """Of what was gathered, shard by shard: its own shard has no pixels."""

    method: GatheringMetric

    @property
    def gatherer(self) -> GatherStage:
        return GatherStage(self.name, self.method, self.method.witnesses_of)

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        images = shard.images.without_pixels()
        return replace(shard, images=images, gathered=evidence.gathered(self.gatherer))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        gathered = tensors(shard.gathered, shard.images.device)
        return self._part(
            context, shard, lambda classifier, streams: self.method.conclude(classifier, gathered, streams, step)
        )


@dataclass(frozen=True)
class StreamedMetricStage(SetMetricStage):
    """Of the images and witnesses where they lie."""

    reads_itself = True

    method: StreamedMetric

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        needed = self.method.witnesses_of
        assert needed is not None
        return replace(shard, stored_witnesses=evidence.stored_witnesses(needed))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        assert shard.stored_witnesses is not None
        images, witnesses = shard.images, replace(shard.images, content=shard.stored_witnesses)
        return self._part(context, shard, lambda classifier, streams: self.method.seen(images, witnesses, step))
