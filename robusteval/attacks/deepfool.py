"""DeepFool: steps to the nearest boundary of the linearised model.

Moosavi-Dezfooli et al. (2016), algorithm 2 and Eqs. 8-12 (any p; here 2 and infinity); SGR, table 2: overshoot 0.02,
at most 100 steps. The steps add up without the box, and what is evaluated is their sum, clipped to it. Deviations:
- Pixels that the box holds back count neither in the distance to a boundary nor in the step. The paper's steps fall
  short by what they lose to the box (half of it on MNIST), so that it needs some three times as many.
- A step covers 0.8 of the way, lest it lands far behind a curved boundary, and the overshoot is added to each step, as
  a part of the distance from the image: near the boundary it crosses it, which the paper leaves to a constant 1e-4.
- The overshoot, no longer needed once the class has changed, is searched away at the end.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import likeliest
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import USUAL, Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class DeepFool(MinimumDistanceAttack):
    """Steps to the nearest boundary of the linearised model; a fooled image leaves the batch at once.

    Costs a forward a step, and a backward for each of the `candidates`; `refine` + 2 forwards at the end.
    """

    name = "deepfool"
    title = "DeepFool"
    summary = "nearest boundary of the linearised model (Moosavi-Dezfooli et al. 2016)"
    norms = (Norm.L2, Norm.LINF)

    steps: PositiveInt = 100
    overshoot: PositiveFloat = 0.02
    candidates: int = Field(default=10, ge=2)
    """How many of the likeliest classes of the image are considered, its own among them."""
    stride: float = Field(default=0.8, gt=0, le=1)
    """The part of the way to the boundary that a step covers."""
    refine: NonNegativeInt = 3
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        steps = min(self.steps, USUAL)
        return Passes(steps + self.refine + 2, steps * min(self.candidates, classes)) * images

    def gradients(self, classes: int) -> int:
        return min(self.candidates, classes)

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        return Candidates(shrink(classifier, images, self._walk(classifier, images), self.refine))

    def _walk(self, classifier: Classifier, images: Images) -> Tensor:
        """The first misclassified iterate of each image, the image itself where there is none."""
        result = images.pixels.clone()
        logits = classifier.predict(images.pixels)
        rows = (logits.argmax(1) == images.labels).nonzero()[:, 0]
        others = likeliest(logits, images.labels, self.candidates - 1)
        classes = torch.cat([images.labels[:, None], others], dim=1)
        classifier, images, classes = keep(rows, classifier, images, classes)
        x, moved = images.pixels, torch.zeros_like(images.pixels)
        for _ in range(self.steps):
            if not len(rows):
                break
            logits, jacobian = classifier.jacobian(x, classes)
            distance, direction = self._nearest(logits.gather(1, classes), jacobian, x)
            possible = distance.isfinite()
            length = self.stride * distance + self.overshoot * (distance + self.norm.size(x - images.pixels))
            moved = moved + column(length.where(possible, 0), x) * direction
            x = (images.pixels + moved).clamp(0, 1)
            wrong = classifier.misclassifies(x, images.labels)
            result[rows[wrong]] = x[wrong]
            if wrong.any() or not possible.all():
                classifier, images, classes, x, moved, rows = keep(
                    possible & ~wrong, classifier, images, classes, x, moved, rows
                )
        return result

    def _nearest(self, logits: Tensor, jacobian: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest boundary of the linearised model at x (N, C, H, W), given the logits (N, k) of the classes and
        their gradients (N, k, C, H, W): its distance (N,), infinite if there is none, and the unit step to it."""
        slopes = jacobian[:, 1:] - jacobian[:, :1]
        free = torch.where(slopes > 0, (x < 1)[:, None], (x > 0)[:, None])
        slopes = slopes.where(free, 0)
        distances = (logits[:, :1] - logits[:, 1:]) / self.norm.dual.size(slopes.flatten(0, 1)).view_as(logits[:, 1:])
        distance, nearest = distances.nan_to_num(torch.inf).min(dim=1)
        return distance, self.norm.steepest(slopes[torch.arange(len(x), device=x.device), nearest])
