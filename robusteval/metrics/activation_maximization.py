"""Images that excite a class most: gradient ascent on its logit, from noise.

SmoothKernels section 4.3 (figures 3 to 6), after Erhan et al. (2009), Simonyan et al. (2013), Engstrom et al. (2019).
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation, SetMetric
from robusteval.models.classifier import Classifier

PARTS = 10
"""The path of the logit is kept at so many points after the start."""


class ActivationMaximization(SetMetric):
    """What the model sees in each class: x <- clip(x + learning_rate * grad z_k(x), 0, 1) from Gaussian noise.

    Kept by class k: `logit_start`, and `logit` and `probability` (softmax) at the end; `mean_logit` is the mean over
    the classes after so many steps, which shows whether the ascent was done. Images: `start-<k>` and `class-<k>`.
    The images serve for their shape only. The end is a local maximum at best, and only as far as the steps went: a
    lower bound on the largest logit in the box. An affine logit reaches its maximum exactly.

    The paper says "projected gradient descent 10000 iterations with learning rate 0.001", read as plain gradient
    steps: sign steps of that size would cross the box ten times. It gives no scale of the noise: here it is
    N(0.5, `noise`^2), cut at the box. An image that a step leaves as it is is done. At most `steps` forwards and
    backwards a class, and a few forwards more.
    """

    name: ClassVar[str] = "activation-maximization"
    title: ClassVar[str] = "What the model sees in each class"
    summary: ClassVar[str] = "what the model sees in each class (SmoothKernels, section 4.3)"
    quantities = (
        Quantity(name="logit_start", title="logit of the noise"),
        Quantity(name="logit", title="logit at the end"),
        Quantity(name="probability", title="probability"),
        Quantity(name="mean_logit", title="logit, mean over the classes"),
    )

    looks_at = 1

    steps: PositiveInt = 10_000
    learning_rate: PositiveFloat = 0.001
    """Pixel units a unit of the gradient of the logit."""
    noise: NonNegativeFloat = 0.25
    """Standard deviation of the noise at the start, pixel units."""
    classes: PositiveInt = 20
    """Of more classes only the first so many are seen."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.steps * min(self.classes, classes))

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        chosen = torch.arange(min(self.classes, classifier.num_classes), device=images.pixels.device)
        chunks = chosen.split(classifier.batch_size)
        marks = sorted({self.steps * i // PARTS for i in range(PARTS + 1)})
        path = torch.zeros(len(marks), dtype=torch.float64)
        statistics: list[Statistic] = []
        arrays: dict[str, Tensor] = {}
        for c, classes in enumerate(chunks):
            drawn = torch.cat([streams.normal(*images.shape) for _ in classes])
            start = x = (0.5 + self.noise * drawn).clamp(0, 1)
            first = logits = classifier.predict(x).double()
            path[0] += _own(first, classes).sum().cpu()
            for i, (before, after) in enumerate(pairwise(marks), start=1):
                x = ascend(classifier, classes, x, after - before, self.learning_rate)
                logits = classifier.predict(x).double()
                path[i] += _own(logits, classes).sum().cpu()
                step(self.steps * c + after, self.steps * len(chunks))
            ends = {"logit_start": first, "logit": logits, "probability": logits.softmax(1)}
            for j, k in enumerate(classes.tolist()):
                statistics += [Statistic(quantity, k, float(values[j, k])) for quantity, values in ends.items()]
                arrays |= {f"start-{k}": start[j], f"class-{k}": x[j]}
        statistics += [Statistic("mean_logit", at, float(v)) for at, v in zip(marks, path / len(chosen), strict=True)]
        return Observation(statistics, arrays=arrays)


def ascend(classifier: Classifier, classes: Tensor, arrays: Tensor, steps: int, rate: float) -> Tensor:
    """Images (N, C, H, W) in [0, 1] after `steps` projected steps up the logits of their `classes` (N,). Where there
    is no gradient (NaN) a pixel stays."""
    x, rows = arrays.clone(), torch.arange(len(arrays), device=arrays.device)
    for _ in range(steps):
        here = x[rows]
        gradient, _, _ = classifier.gradient(here, partial(_own, classes=classes[rows]))
        there = (here + rate * gradient.nan_to_num()).clamp(0, 1)
        x[rows] = there
        rows = rows[(there != here).flatten(1).any(1)]
        if not len(rows):
            break
    return x


def _own(logits: Tensor, classes: Tensor) -> Tensor:
    """Of each row (N, K) the entry of its class, (N,)."""
    return logits.gather(1, classes[:, None])[:, 0]
