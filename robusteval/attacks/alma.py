"""ALMA: the augmented Lagrangian of the distance under the constraint of a misclassification, in L1 and L2.

Rony et al. (2021), "Augmented Lagrangian adversarial attacks", algorithm 1 with the penalty P2: RMSProp with momentum
on the distance plus the penalty of the constraint, y = minus the difference of logits ratio < 0. The multiplier is a
running mean of the penalty's slope in y; the penalty's parameter grows by a fifth at every tenth step where nothing was
found yet and y fell by less than a twentieth. From an image's first success on its step falls exponentially.
Deviations: the distance is measured in, and the first step is a share of, the distance of the linearised boundary at
the image, so that far and near boundaries look alike (the paper's step makes the first move of a given length); it
falls further than to a hundredth; with two classes, which have no such ratio, the constraint is the margin over that of
the image; in L1 an entry that would pass the image's own value stops there and loses its momentum, or else none is ever
unchanged; the closest image is drawn towards the image at the end.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.losses import dlr
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

INSIDE = 1e-4
"""By how much the constraint asks for more than a tie."""
CHECKED, ENOUGH, GROWTH = 10, 0.95, 1.2
"""How often, and at which share of the last value of the constraint, the penalty's parameter grows, and by what."""
MOST, LEAST = 1e12, 1e-6
"""Of the multiplier."""


class ALMA(MinimumDistanceAttack):
    """Draws nothing at random.

    Costs `steps` forwards and backwards an image, and `refine` + 2 forwards for the search at the end.
    """

    name = "alma"
    title = "ALMA"
    summary = "augmented Lagrangian of distance and margin (Rony et al. 2021)"
    norms = (Norm.L1, Norm.L2)

    steps: PositiveInt = 200
    step: PositiveFloat | None = None
    """The first step of an entry, over the distance of the linearised boundary; unless given 0.3 in L1, else 0.5."""
    last: float | None = Field(default=None, gt=0, le=1)
    """The last step over the first; unless given 0.0003 in L1, else 0.001."""
    memory: float = Field(default=0.9, ge=0, lt=1)
    """Of the mean squares of the gradient, of the momentum and of the multiplier."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        clean = best = x = images.pixels
        first, last = (0.3, 0.0003) if self.norm is Norm.L1 else (0.5, 0.001)
        first, last = self.step or first, self.last or last
        farthest = self.norm.size(torch.maximum(clean, 1 - clean))
        tiny = torch.finfo(clean.dtype).tiny
        multiplier = weight = reach = unit = checked = torch.ones_like(farthest)
        distance = since = torch.full_like(farthest, torch.inf)
        square, momentum = torch.ones_like(clean), torch.zeros_like(clean)
        for i in range(self.steps):
            gradient, value, logits = classifier.gradient(x, lambda logits: dlr(logits, images.labels))
            wrong, change = misclassified(logits, images.labels), x - clean
            here = self.norm.size(change)
            closer = wrong & (here < distance)
            best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
            since = torch.where(wrong & since.isinf(), i, since)
            if i == 0:
                ahead = value.abs() / self.norm.dual.size(gradient).clamp_min(tiny)
                reach = ahead.clamp_min(LEAST).minimum(farthest)
                unit = value.abs().clamp_min(tiny) if classifier.num_classes < 3 else unit
            missing = (INSIDE - value / unit).clamp_max(MOST)
            if i == 0:
                checked = missing
            elif (i + 1) % CHECKED == 0:
                stuck = since.isinf() & (missing >= ENOUGH * checked)
                weight, checked = torch.where(stuck, GROWTH * weight, weight), missing
            if i:
                slope = _slope(missing, weight, multiplier)
                multiplier = (slope + self.memory * (multiplier - slope)).clamp(LEAST, MOST)
            down = column(-_slope(missing, weight, multiplier) / unit, gradient) * gradient
            away = change.sign() if self.norm is Norm.L1 else self.norm.scale_to(change, 1.0)
            down = down + away / column(reach, away)
            square = self.memory * square + (1 - self.memory) * down.square()
            momentum = self.memory * momentum + down / (square.sqrt() + 1e-8)
            done = torch.where(since.isinf(), 0, (i - since) / (self.steps - since))
            x = (x - column((first * reach).clamp_max(1) * last**done, x) * momentum).clamp(0, 1)
            if self.norm is Norm.L1:
                passed = (x - clean) * change < 0
                x, momentum = torch.where(passed, clean, x), torch.where(passed, 0, momentum)
        return Candidates(shrink(classifier, images, best, self.refine))


def _slope(missing: Tensor, weight: Tensor, multiplier: Tensor) -> Tensor:
    """The derivative of the penalty P2, with its parameter `weight`, in `missing`, all (N,)."""
    over = missing.clamp_min(0)
    above = multiplier + 2 * multiplier * weight * over + (weight * over).square() / 2
    below = multiplier / (1 - weight * missing.clamp_max(0)).square()
    return torch.where(missing >= 0, above, below)
