"""PDGD: primal-dual gradient descent, in L2.

Matyasko & Chau (2021), algorithm 1: descend on softplus(margin) + price * |change|_2, the price following the boundary;
search/primal_dual.py says how, and in what it deviates. What brings it near where others stay far away, on models
trained for Linf whose first layer saturates, is that every pixel takes a step of the same order, as in Adam, whatever
the size of its derivative, and that the descent begins deep in the misclassified region. So here a step is the sign of
the mean gradient itself, without Adam's second moments, which are of steps long gone and end further away.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.primal_dual import RunningMean, search
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class PDGD(MinimumDistanceAttack):
    """Draws at random only where a search found nothing and another one follows.

    Costs `steps` forwards and backwards an image, and `refine` + 2 forwards for the search at the end.
    """

    name = "pdgd"
    title = "PDGD"
    summary = "primal-dual gradient descent (Matyasko & Chau 2021)"
    norms = (Norm.L2,)

    steps: PositiveInt = 200
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        best = search(classifier, images, streams, self.norm, self.steps, SignDescent.begin)
        return Candidates(shrink(classifier, images, best, self.refine))


@dataclass
class SignDescent:
    """By the signs of the mean gradient of the loss plus the price of the distance."""

    mean: RunningMean

    @classmethod
    def begin(cls, like: Tensor) -> SignDescent:
        return cls(RunningMean.begin(like))

    def __call__(self, change: Tensor, gradient: Tensor, price: Tensor, step: Tensor) -> Tensor:
        whole = gradient + column(price, change) * Norm.L2.scale_to(change, 1.0)
        return change - column(step, change) * self.mean.take(whole / column(1 + price, change)).sign()
