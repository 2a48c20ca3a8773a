"""DDN: decoupled direction and norm.

Rony et al. (2019), algorithm 1, untargeted, in L2: step along the normalised gradient of the cross-entropy, then set
the size of the perturbation: (1 - gamma) of the last one where the image is misclassified, (1 + gamma) where it is
not. The step falls from 1 to 0.01 on a cosine. Deviations: the steps are shared out among rounds from the image and
from random images (search/rounds.py), the latter from the greatest norm; gamma, 0.05 in the paper, is larger for these
and falls with the step; no quantisation; the gradient is that of the odds against the label,
log sum_{j != y} exp z_j - z_y, which has the direction of the cross-entropy's and does not vanish with it; in rounds
from random images that of the margin, which aims at one class where many are likely; the closest misclassified iterate
is drawn towards the image at the end.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.losses import margin
from robusteval.attacks.search.rounds import in_rounds
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier


class DDN(MinimumDistanceAttack):
    """Decoupled direction and norm, from the image and from random images.

    Costs `steps` forwards and backwards an image, and `refine` + 2 forwards for the search at the end.
    """

    name = "ddn"
    title = "DDN"
    summary = "smallest L2 perturbation, direction and norm apart (Rony et al. 2019)"
    norms = (Norm.L2,)

    steps: PositiveInt = 100
    gamma: float = Field(default=0.3, gt=0, lt=1)
    """How much the norm shrinks after a misclassified iterate and grows after another."""
    start: PositiveFloat = 1.0
    """The norm before the first step from the image."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        def search(start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
            return self._round(classifier, images, start, steps)

        found = in_rounds(search, images, self.steps, streams)
        return Candidates(shrink(classifier, images, found, self.refine))

    def _round(self, classifier: Classifier, images: Images, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The closest misclassified iterates (N, C, H, W) of so many steps from x, and their norms (N,)."""
        best, here = x, Norm.L2.size(x - images.pixels)
        climbed = margin if bool((here > 0).any()) else odds
        farthest = Norm.L2.size(torch.maximum(images.pixels, 1 - images.pixels))
        size = torch.where(here > 0, farthest, farthest.clamp_max(self.start))
        distance = torch.full_like(size, torch.inf)
        for step in range(steps):
            gradient, _, logits = classifier.gradient(x, lambda logits: climbed(logits, images.labels))
            wrong = misclassified(logits, images.labels)
            moved = x - images.pixels
            here = Norm.L2.size(moved)
            closer = wrong & (here < distance)
            best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
            fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
            size = (size * torch.where(wrong, 1 - fall * self.gamma, 1 + fall * self.gamma)).minimum(farthest)
            moved = moved + fall * Norm.L2.steepest(gradient)
            x = (images.pixels + Norm.L2.scale_to(moved, size)).clamp(0, 1)
        return best, distance


def odds(logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the odds against the label under the softmax of logits (N, K), (N,): the cross-entropy is
    log(1 + exp of it), and its gradient is that of the odds, scaled down by the probability of the other classes."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]
