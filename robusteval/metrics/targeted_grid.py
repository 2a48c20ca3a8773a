"""Targeted attacks from every class to every other one: what has to change for the model to see it.

SmoothKernels appendix C (figures 10 to 37). The paper says only that it takes advantage of the gradient; here the
attack is APGD (Croce & Hein 2020) on the target's log-probability, over all of its steps, from the image itself.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.apgd import climb
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.methods import NormedMethod, Quantity, Radius, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation
from robusteval.metrics.whole_set import GatheringMetric
from robusteval.models.classifier import Classifier
from robusteval.models.gathering import Gathered


class TargetedGrid(NormedMethod, GatheringMetric):
    """One correctly classified image of each class, the first by id, attacked towards each other class.

    Each image is the one of the highest target probability seen on `steps` steps within `budget` in `norm`. Kept at
    source * K + target, K the number of classes: `reached` is 1 if the target is predicted, else 0;
    `target_probability`; `distance` in `norm`, pixel units. `sources` counts the classes that have a correctly
    classified image; the others have no numbers. Images: `<source>-<target>`, of which `<source>-<source>` is the
    image. That a class is reached is proven by its image; that it is not says only that this attack failed. One
    image a class says nothing about the others of that class.

    Costs a forward for each image, and `steps` + 2 forwards and `steps` backwards a pair.
    """

    name: ClassVar[str] = "targeted-grid"
    title: ClassVar[str] = "Targeted attacks, class by class"
    summary: ClassVar[str] = "an image of each class attacked towards each other (SmoothKernels, appendix C)"
    quantities = (
        Quantity(name="sources", title="classes with a correctly classified image"),
        Quantity(name="reached", title="reached"),
        Quantity(name="target_probability", title="target probability"),
        Quantity(name="distance", title="distance"),
    )

    budget: Radius
    steps: PositiveInt = 40
    classes: PositiveInt = 20
    """Of more classes only the first so many are sources and targets."""

    def passes(self, images: int, classes: int) -> Passes:
        k = min(self.classes, classes)
        return Passes(images) + Passes.both(k * (classes - 1) * self.steps)

    def gather(self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams) -> Gathered:
        """The first correctly classified image of each class: `sources` (S,) and their `pixels` (S, C, H, W)."""
        sources, rows = first_correct(classifier, images, min(self.classes, classifier.num_classes))
        return {"sources": sources, "pixels": images.pixels[rows]}

    def merged(self, one: Gathered, other: Gathered) -> Gathered:
        new = ~torch.isin(other["sources"], one["sources"])
        both = super().merged(one, {name: values[new] for name, values in other.items()})
        order = both["sources"].argsort()
        return {name: values[order] for name, values in both.items()}

    def conclude(self, classifier: Classifier, gathered: Gathered, streams: Streams, step: Step) -> Observation:
        k, sources, pixels = classifier.num_classes, gathered["sources"], gathered["pixels"]
        statistics = [Statistic("sources", 0, len(sources))]
        arrays = {f"{s}-{s}": own for s, own in zip(sources.tolist(), pixels, strict=True)}
        every = torch.arange(min(self.classes, k), device=sources.device)
        pairs = torch.cartesian_prod(torch.arange(len(sources), device=sources.device), every)
        pairs = pairs[sources[pairs[:, 0]] != pairs[:, 1]]
        for chunk in pairs.split(classifier.batch_size) if len(pairs) else ():
            start, origin, target = pixels[chunk[:, 0]], sources[chunk[:, 0]], chunk[:, 1]
            found = towards(classifier, start, origin, target, self.norm, self.budget, self.steps)
            logits = classifier.predict(found).double()
            seen = {
                "reached": logits.argmax(1) == target,
                "target_probability": logits.softmax(1).gather(1, target[:, None])[:, 0],
                "distance": self.norm.size((found - start).double()),
            }
            for i, (s, t) in enumerate(zip(origin.tolist(), target.tolist(), strict=True)):
                statistics += [Statistic(quantity, s * k + t, float(values[i])) for quantity, values in seen.items()]
                arrays[f"{s}-{t}"] = found[i]
            step(len(arrays) - len(sources), len(pairs))
        return Observation(statistics, arrays=arrays)


def first_correct(classifier: Classifier, images: Images, classes: int) -> tuple[Tensor, Tensor]:
    """The classes below `classes` that have a correctly classified image, ascending, and the first such image of
    each: two (S,) of integers."""
    correct = classifier.predict(images.pixels).argmax(1) == images.labels
    hits = correct & (images.labels == torch.arange(classes, device=images.labels.device)[:, None])
    sources = hits.any(1).nonzero()[:, 0]
    return sources, hits[sources].int().argmax(1)


def towards(
    classifier: Classifier, start: Tensor, labels: Tensor, targets: Tensor, norm: Norm, budget: float, steps: int
) -> Tensor:
    """Images (N, C, H, W) in the balls of `budget` around `start`, those of the highest probability of the `targets`
    (N,) that the ascent saw."""
    ball = Ball.around(start, norm, budget)
    goal = Goal(Loss.CROSS_ENTROPY, labels, targets)
    return climb(classifier, ball, goal, ball.centers, steps, leave=False)[0]
