"""The last stage: the images as they are, evaluated once more, since a model may have drifted since the first; and two
shards of other stages computed once more, which must give the same rows; twice, where they were first computed in other
circumstances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from robusteval.attacks.judge import decide
from robusteval.attacks.search.losses import margin
from robusteval.auditing.engines import Work
from robusteval.auditing.stages.base import Computed, Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.frames import cost_of, measurement_rows
from robusteval.auditing.stages.part import Part
from robusteval.auditing.stages.sanity import LOOKED_AT
from robusteval.auditing.stages.twice import changes, tolerance_of, worth_another
from robusteval.core.methods import Step
from robusteval.core.passes import Passes
from robusteval.models.behaviour import sizes
from robusteval.results.files import Arrays
from robusteval.results.records import DIFFERS, REPEAT, Cost, SanityRecord
from robusteval.results.tables import MEASUREMENTS_TABLE


@dataclass(frozen=True)
class RepeatStage(Stage):
    """Of the images that the sanity stage looked at, the change of their margins since the clean stage, relative to
    the two logits that decide. Of two shards of the `others`, the images whose rows are not what they were, and by how
    much: nothing where all are the same, whichever shards they were. Of these only the time is booked."""

    of_the_set = True

    name: str = REPEAT
    unavailable: str = ""
    others: tuple[Stage, ...] = ()

    def record(self) -> SanityRecord:
        return SanityRecord(name=self.name, title="Clean predictions again")

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        shard = replace(shard, images=shard.images.first(LOOKED_AT))
        again = tuple(worth_another(self.others, evidence))
        return replace(shard, margins=evidence.margins(shard), again=again)

    def passes(self, images: int, classes: int) -> Passes:
        """Without those of the shards that it computes once more, which it chooses by the time that they took."""
        return Passes(min(images, LOOKED_AT))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images, before = shard.images, shard.margins
        assert before is not None
        classifier = context.classifier.metered(len(images))
        logits = decide(classifier, images.pixels).logits.double()
        change = (-margin(logits, images.labels) - before).abs() / sizes(logits).amin(1)
        rows = measurement_rows(self.name, images, [("change_since", 0.0, change.nan_to_num(0.0))])
        cost, frames = cost_of(classifier), [rows]
        for one in shard.again:
            differing, seconds = self._twice(context, one)
            frames.append(differing)
            cost += Cost(model_seconds=seconds)
        return Part(pd.concat(frames, ignore_index=True), cost=cost)

    def recompute(self, context: Context, shard: Shard, stored: pd.DataFrame, arrays: Arrays) -> Part:
        """What differed in the audit is taken as it is: nothing can tell it afterwards."""
        part = self.compute(context, replace(shard, again=()))
        differed = stored[stored["quantity"].isin([DIFFERS + other.name for other in self.others])]
        return replace(part, rows=pd.concat([part.rows, differed], ignore_index=True))

    def _twice(self, context: Context, one: Computed) -> tuple[pd.DataFrame, float]:
        """What differs, and the seconds of the models; both times here, so that no difference is that of machines."""
        work, seconds, rows = Work(one.stage, context), 0.0, one.rows
        if rows is None:
            part = work(one.shard)
            seconds, rows = part.cost.model_seconds, part.rows
        part = work(one.shard)
        change = changes(rows, part.rows)
        change = change[change > tolerance_of(one.shard.images.pixels.dtype)]
        named = {"image_id": change.index, "value": change.to_numpy()}
        constant = {"method": self.name, "quantity": DIFFERS + one.stage.name, "at": 0.0}
        return MEASUREMENTS_TABLE.frame({**named, **constant}), seconds + part.cost.model_seconds
