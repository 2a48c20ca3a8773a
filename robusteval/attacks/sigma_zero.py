"""sigma-zero: the fewest changed entries, by gradients of a smooth count of them.

Cinà et al. (2025), "sigma-zero: gradient-based optimization of l0-norm adversarial examples", algorithm 1: Adam on the
margin, as long as the image is classified correctly, plus the count's approximation sum_i d_i^2 / (d_i^2 + sigma)
(Eq. 4); after each step, changes below a threshold are put back, and the threshold grows where the image is
misclassified and falls where not. The step falls on a cosine to a tenth. Deviations: the gradient of the margin is
rescaled to 1 in Linf before that of the count, times `weight`, is added, so that the scale of the logits and the
size of the image say nothing; several starts, each with three tenths of the last one's weight, as single runs end at
counts that differ by half where gradients vanish; images that no start has broken begin the next one at random; the
smallest changes of the closest image are put back, as far as a bisection on their number finds; and exchanges of
single entries (search/exchange.py) go on from there, which ended closer than as many more steps on every network.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.exchange import exchange
from robusteval.attacks.search.filling import thin
from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

MEAN, SQUARE = 0.9, 0.999
"""Adam's memories."""
LAST_STEP = 0.1
LESS = 0.3
"""A start's weight over that of the start before."""
SHORTEST = 20
"""Steps that a start has at least: with fewer in all there are fewer starts."""


class SigmaZero(MinimumDistanceAttack):
    """Draws at random only for images that the first start leaves unbroken.

    Costs `steps` + `exchanges` forwards and backwards an image, and `refine` forwards.
    """

    name = "sigma-zero"
    title = "sigma-zero"
    summary = "fewest changed entries, by a smooth count of them (Cinà et al. 2025)"
    norms = (Norm.L0,)

    steps: PositiveInt = 150
    """Of all starts together."""
    starts: PositiveInt = 2
    step: PositiveFloat = 1.0
    """The first step of Adam, per entry."""
    sigma: PositiveFloat = 0.001
    """Squares of changes much above it count as 1."""
    threshold: float = Field(default=0.3, ge=0, le=1)
    """Below which changes are put back at first."""
    rate: PositiveFloat = 0.01
    """By how much the threshold moves, over the step."""
    weight: PositiveFloat = 0.1
    """Of the count beside the margin, in the first start."""
    refine: NonNegativeInt = 6
    """Evaluations of the search that puts back the smallest changes."""
    exchanges: NonNegativeInt = 150

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps + self.exchanges) + Passes(self.refine)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        clean = best = images.pixels
        fewest = torch.full_like(Norm.L0.size(clean), torch.inf)
        starts = max(1, min(self.starts, self.steps // SHORTEST))
        for start in range(starts):
            steps = self.steps // starts + (start < self.steps % starts)
            x = clean
            if start:
                drawn = streams.uniform(*clean.shape[1:])
                x = torch.where(column(fewest.isinf(), clean), drawn, clean)
            found, count = self._descent(classifier, images, x, steps, self.weight * LESS**start)
            closer = count < fewest
            best, fewest = torch.where(column(closer, best), found, best), torch.minimum(count, fewest)
        best = thin(classifier, images, best, self.refine)
        return Candidates(exchange(classifier, images, best, self.exchanges))

    def _descent(
        self, classifier: Classifier, images: Images, x: Tensor, steps: int, weight: float
    ) -> tuple[Tensor, Tensor]:
        """One start from x: the closest misclassified images, and how many entries of each are changed; infinity where
        there is none."""
        clean = best = images.pixels
        changes = x - clean
        mean, square = torch.zeros_like(clean), torch.zeros_like(clean)
        fewest = torch.full_like(Norm.L0.size(clean), torch.inf)
        threshold = torch.full_like(fewest, self.threshold)
        step, scale = self.step, weight * self.sigma**0.5
        for i in range(1, steps + 1):
            gradient, _, logits = classifier.gradient(x, lambda logits: margin(logits, images.labels))
            wrong, count = misclassified(logits, images.labels), Norm.L0.size(x - clean)
            closer = wrong & (count < fewest)
            best, fewest = torch.where(column(closer, x), x, best), torch.where(closer, count, fewest)
            counted = 2 * self.sigma * changes / (changes.square() + self.sigma).square()
            climb = torch.where(column(wrong, x), 0, Norm.LINF.scale_to(gradient, 1.0))
            unit = Norm.LINF.scale_to(scale * counted - climb, 1.0)
            mean = MEAN * mean + (1 - MEAN) * unit
            square = SQUARE * square + (1 - SQUARE) * unit.square()
            root = (square / (1 - SQUARE**i)).sqrt() + 1e-8
            changes = (clean + changes - step / (1 - MEAN**i) * mean / root).clamp(0, 1) - clean
            step = self.step * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * i / steps)) / 2)
            threshold = (threshold + self.rate * step * torch.where(wrong, 1.0, -1.0).to(threshold)).clamp(0, 1)
            kept = changes.abs() >= column(threshold, changes)
            changes = torch.where(kept, changes, 0)
            x = torch.where(kept, (clean + changes).clamp(0, 1), clean)
        return best, fewest
