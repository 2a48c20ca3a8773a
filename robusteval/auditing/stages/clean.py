"""The clean stage: predictions and margins on the images themselves, decided as the judge decides."""

from __future__ import annotations

from dataclasses import dataclass

from robusteval.attacks.judge import finite_decision
from robusteval.attacks.search.losses import margin
from robusteval.auditing.stages.base import Context, Shard, Stage, unheard
from robusteval.auditing.stages.frames import array, cost_of
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.core.passes import Passes
from robusteval.results.records import CLEAN, CleanRecord
from robusteval.results.tables import IMAGES_TABLE


@dataclass(frozen=True)
class CleanStage(Stage):
    """Its images are kept as the evidence of the run."""

    essential = True
    keeps_arrays = True
    always_verified = True

    name: str = CLEAN
    unavailable: str = ""

    def record(self) -> CleanRecord:
        return CleanRecord(name=self.name, title="Clean predictions")

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(images)

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images = shard.images
        classifier = context.classifier.metered(len(images))
        decision = finite_decision(classifier, images)
        logits, predicted = decision.logits.double(), decision.predicted
        rows = IMAGES_TABLE.frame(
            {
                "image_id": images.ids,
                "label": array(images.labels),
                "predicted": array(predicted),
                "correct": array(predicted == images.labels),
                "logit_margin": array(-margin(logits, images.labels)),
                "probability_margin": array(-margin(logits.softmax(1), images.labels)),
            }
        )
        arrays = dict(zip(images.ids, array(images.pixels), strict=True))
        return Part(rows, {}, arrays, cost_of(classifier))
