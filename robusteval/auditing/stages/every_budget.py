"""A stage of an attack that is tried at every budget by itself: what it finds at one says nothing of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from robusteval.attacks.judge import judge
from robusteval.auditing.stages.attack import AttackStage, known, non_finite
from robusteval.auditing.stages.base import Context, Shard, unheard
from robusteval.auditing.stages.budget_search import Measured
from robusteval.auditing.stages.frames import array
from robusteval.auditing.stages.part import Part
from robusteval.core.methods import Step
from robusteval.core.passes import Passes
from robusteval.results.run import witness_key


@dataclass(frozen=True)
class EveryBudgetStage(AttackStage):
    """As a paper averages accuracy over budgets: one attack a budget on every correctly classified image, and a row of
    what it found there. An image may be fooled at one budget and stand at a larger one. Each witness is kept."""

    by_itself: ClassVar[bool] = True

    def passes(self, images: int, classes: int) -> Passes | None:
        once = self.method.passes(images, classes)
        return None if once is None else once * len(self.budgets)

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images, method, correct = shard.images, self.method, known(shard.correct)
        source, target = self.models(context, len(images))
        streams = context.streams(self.name, images)
        rows = correct.nonzero()[:, 0]
        frames, arrays, measured = [], {}, []
        spent, seconds = torch.zeros(2, dtype=torch.float64), 0.0
        counts = torch.zeros(2, len(images), dtype=torch.float64)
        for budget in self.radii:
            examples = images.pixels.clone()
            view, costs = source.metered(len(images)), torch.zeros(2, len(images), dtype=torch.float64)
            if len(rows):
                given = torch.full((len(rows),), budget).to(examples)
                found = method.run(view.select(rows), images.select(rows), given, streams.select(rows))
                examples[rows] = found.examples
                measured.append(Measured(rows, found.measurements, array(torch.full((len(rows),), budget).double())))
                counts += torch.stack([view.meter.non_finite_answers, view.meter.non_finite_gradients])
                costs = torch.stack([view.meter.forwards, view.meter.backwards]).double().cpu()
            # Where outputs are random, an image may fool by itself: only what was found is a witness.
            own = ~correct | (examples != images.pixels).flatten(1).any(1)
            verdict = judge(target, images, examples, method.norm, budget).only(own, images.labels)
            frames.append(self.rows(images, verdict, np.full(len(images), budget), costs))
            for i in (correct & verdict.success).nonzero()[:, 0].tolist():
                arrays[witness_key(images.ids[i], budget)] = array(examples[i])
            spent, seconds = spent + costs.sum(1), seconds + view.meter.stopwatch.seconds
        measured.append(non_finite(correct, counts, target.meter))
        return self.part(images, frames, arrays, measured, spent, seconds + target.meter.stopwatch.seconds)
