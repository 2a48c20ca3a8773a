"""The sanity stage: what the model, the images and the normalisation look like before the first method runs.

Whether the model is a function of the image alone, whether it lets gradients through, and the numbers behind the
warnings of robusteval/sanity.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from robusteval.attacks.search.losses import Goal, Loss
from robusteval.auditing.stages.base import Context, Evidence, Shard, Stage, unheard
from robusteval.auditing.stages.frames import cost_of, measurement_rows, statistic_rows
from robusteval.auditing.stages.part import Part
from robusteval.core.images import Images
from robusteval.core.methods import Statistic, Step
from robusteval.core.passes import Passes
from robusteval.metrics.gradient_size import gradient_rows, largest_entries
from robusteval.models.behaviour import Traits, observe, sizes
from robusteval.models.classifier import Classifier
from robusteval.results.records import SANITY, SanityRecord

LOOKED_AT = 100
"""Images at most that are evaluated, the first ones by id."""
MOVED = 0.1
"""By how much their pixels are changed at most, to see whether the model is the same beside them."""


@dataclass(frozen=True)
class SanityStage(Stage):
    """Of at most LOOKED_AT images the changes of their outputs and the size of their gradients; of the whole set what
    the statistics say."""

    essential = True
    of_the_set = True

    name: str = SANITY
    unavailable: str = ""

    def record(self) -> SanityRecord:
        return SanityRecord(name=self.name, title="Sanity checks")

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(19, 4) * min(images, LOOKED_AT)

    def feed(self, shard: Shard, evidence: Evidence) -> Shard:
        """The images that are evaluated; of all of them, what the statistics say of their pixels."""
        return replace(shard, images=shard.images.first(LOOKED_AT), state=tuple(_inputs(shard.images)))

    def compute(self, context: Context, shard: Shard, step: Step = unheard) -> Part:
        images = shard.images
        classifier = context.opened.metered(len(images))
        draws = 2 * context.streams(self.name, images).uniform(*images.shape) - 1
        behaviour = observe(classifier, images.pixels)
        # A model may be another one off the data, where the attacks are; an error there is the methods' to meet.
        with suppress(Exception):
            moved = (images.pixels + MOVED * draws).clamp(0, 1)
            behaviour = behaviour.with_those(observe(classifier, moved))
        found = [("change_again", behaviour.again), ("change_seeded", behaviour.seeded)]
        found += [("change_alone", behaviour.alone), *_gradients(classifier, images)]
        statistics = [*_decisions(behaviour.traits), *_seen_by(classifier, shard.state)]
        differ = bool((images.pixels != images.pixels[:1]).any())
        spread = output_range(classifier.predict(images.pixels)) if differ else float("inf")
        statistics.append(Statistic("output_range", 0, spread))
        rows = measurement_rows(self.name, images, [(quantity, 0.0, values) for quantity, values in found])
        return Part(rows, {"statistics": statistic_rows(self.name, statistics)}, cost=cost_of(classifier))


def _gradients(classifier: Classifier, images: Images) -> list[tuple[str, Tensor]]:
    found = []
    for quantity, loss in (("gradient_size", Loss.CROSS_ENTROPY), ("gradient_size_margin", Loss.MARGIN)):
        parts = []
        for rows in torch.arange(len(images)).split(classifier.batch_size):
            some = images.select(rows)
            parts.append(largest_entries(*gradient_rows(classifier.select(rows), some.pixels, Goal(loss, some.labels))))
        found.append((quantity, torch.cat(parts)))
    return [*found, ("gradient_change", _again(classifier, images))]


def _again(classifier: Classifier, images: Images) -> Tensor:
    """The largest change of an entry of the margin's gradient when it is computed again, relative to the largest one,
    (N,); NaN where there is none."""
    parts = []
    for rows in torch.arange(len(images)).split(classifier.batch_size):
        some, view = images.select(rows), classifier.select(rows)
        goal = Goal(Loss.MARGIN, some.labels)
        (first, _), (then, _) = (gradient_rows(view, some.pixels, goal) for _ in range(2))
        if first is None or then is None:
            parts.append(torch.full((len(rows),), torch.nan, device=some.pixels.device))
        else:
            parts.append((then - first).abs().amax(1) / first.abs().amax(1).clamp_min(torch.finfo(first.dtype).tiny))
    return torch.cat(parts)


def _decisions(traits: Traits) -> list[Statistic]:
    return [Statistic(f.name, 0, float(getattr(traits, f.name))) for f in fields(traits)]


def read_traits(statistics: Sequence[Statistic]) -> Traits:
    """What the stage found of the model, out of its statistics."""
    values = {s.quantity: bool(s.value) for s in statistics}
    return Traits(**{f.name: values[f.name] for f in fields(Traits)})


def _inputs(images: Images) -> list[Statistic]:
    """The brightest pixel of all, and mean and standard deviation of each channel: by blocks, from the mean and the
    squares of each, in double precision (Chan, Golub & LeVeque 1983)."""
    brightest, count = 0.0, 0
    mean, squares = (torch.zeros(images.shape[0], dtype=torch.float64) for _ in range(2))
    for block in images.blocks():
        values = block.pixels.double().cpu().transpose(0, 1).flatten(1)
        brightest = max(brightest, float(values.max()))
        own, n = values.mean(1), values.shape[1]
        squares += (values - own[:, None]).square().sum(1) + (own - mean).square() * (count * n / (count + n))
        mean, count = mean + (own - mean) * (n / (count + n)), count + n
    std = (squares / count).sqrt()
    by_channel = [("mean", mean), ("std", std)]
    found = [Statistic(name, c, v) for name, values in by_channel for c, v in enumerate(values.tolist())]
    return [Statistic("brightest", 0, brightest), *found]


def _seen_by(classifier: Classifier, inputs: Sequence[Statistic]) -> list[Statistic]:
    """The brightest pixel, the normalisation, and what it makes of the images, by channel."""
    of = {(s.quantity, s.at): s.value for s in inputs}
    found = [Statistic("brightest", 0, of["brightest", 0])]
    for c, (m, s) in enumerate(zip(classifier.mean, classifier.std, strict=True)):
        found += [Statistic("mean", c, m), Statistic("std", c, s)]
        found.append(Statistic("standardised_mean", c, (of["mean", c] - m) / s))
        found.append(Statistic("standardised_std", c, of["std", c] / s))
    return found


def output_range(logits: Tensor) -> float:
    """The largest change of a logit between images, relative to its size; infinite for fewer than two of them."""
    if len(logits) < 2:
        return float("inf")
    scale = sizes(logits).amax(0)
    return float(((logits.amax(0) - logits.amin(0)) / scale).max().nan_to_num(torch.inf))
