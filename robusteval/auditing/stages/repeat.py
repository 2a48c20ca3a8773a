"""The last stage: the images as they are, evaluated once more, since a model may have drifted since the first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robusteval.attacks.judge import decide
from robusteval.attacks.search.losses import margin
from robusteval.auditing.stages.base import Context, Evidence, Part, Shard, Stage, cut, unheard
from robusteval.auditing.stages.frames import cost_of, measurement_rows
from robusteval.auditing.stages.sanity import LOOKED_AT
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.models.behaviour import sizes
from robusteval.results.records import REPEAT, SanityRecord


@dataclass(frozen=True)
class RepeatStage(Stage):
    """Of the images that the sanity stage looked at, the change of their margins since the clean stage, relative to
    the two logits that decide."""

    name: str = REPEAT
    unavailable: str = ""

    def record(self) -> SanityRecord:
        return SanityRecord(name=self.name, title="Clean predictions again")

    def shards(self, images: Images, batch_size: int) -> tuple[Shard, ...]:
        return tuple(replace(s, images=s.images.first(LOOKED_AT)) for s in cut(images, len(images)))

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        return replace(shard, margins=evidence.margins(shard))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images, before = shard.images, shard.margins
        assert before is not None
        classifier = context.classifier.metered(len(images))
        logits = decide(classifier, images.pixels).logits.double()
        change = (-margin(logits, images.labels) - before).abs() / sizes(logits).amin(1)
        rows = measurement_rows(self.name, images, [("change_since", 0.0, change.nan_to_num(0.0))])
        return Part(rows, cost=cost_of(classifier))
