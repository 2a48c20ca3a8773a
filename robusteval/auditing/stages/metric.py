"""A stage of a metric of each image; of the whole set in set_metric.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.frames import cost_of, measurement_rows
from robusteval.auditing.stages.part import Part
from robusteval.auditing.stages.recorded import method_record
from robusteval.core.methods import Step
from robusteval.core.passes import Passes
from robusteval.core.registry import Origin
from robusteval.metrics.base import ImageMetric, Metric, SetMetric
from robusteval.results.records import MetricRecord


@dataclass(frozen=True)
class MetricStage(Stage):
    name: str
    method: Metric
    origin: Origin
    unavailable: str = ""

    def record(self) -> MetricRecord:
        method = self.method
        whole = isinstance(method, SetMetric)
        return method_record(
            MetricRecord, self.name, method, self.origin, witnesses=method.witnesses_of, of_the_set=whole
        )

    def passes(self, images: int, classes: int) -> Passes | None:
        return self.method.passes(images, classes)

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        needed = self.method.witnesses_of
        return shard if needed is None else replace(shard, witnesses=evidence.witnesses(needed, [shard]))


@dataclass(frozen=True)
class ImageMetricStage(MetricStage):
    """A metric of each image by itself."""

    method: ImageMetric

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images = shard.images
        classifier = context.classifier.metered(len(images))
        found = self.method.measure(classifier, images, shard.witnesses, context.streams(self.name, images))
        # No value, no row: whether a metric gives NaN or nothing for an image depends on the others in its shard.
        rows = measurement_rows(self.name, images, [(m.quantity, m.at, m.values) for m in found], missing=False)
        return Part(rows, cost=cost_of(classifier))
