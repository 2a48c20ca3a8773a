"""PDPGD: primal-dual proximal gradient descent, in L0, L1, L2 and Linf.

Matyasko & Chau (2021), algorithm 2: a step of Adam on softplus(margin), then the proximal operator of price * |change|
in Adam's metric; search/primal_dual.py says how the price moves, and in what the search deviates. In L0 the operator
is that of the sum of |change|^(2/3), as the paper advises. Deviations: the operators are exact, in the box and in the
metric, by one evaluation, not by inner iterations on one without a box; and the metric is evened, no weight being less
than a fifth of the image's largest (in L2 and Linf a fiftieth, or else their closest point moves away), or else pixels
with small derivatives, most of them on models that saturate, are put back the moment they move.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.filling import thin
from robusteval.attacks.search.primal_dual import Descent, RunningMean, RunningRoot, search
from robusteval.attacks.search.proximal import Proximal, prox_l1, prox_l2, prox_linf, prox_two_thirds
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

OPERATORS: dict[Norm, tuple[Proximal, float]] = {
    Norm.L0: (prox_two_thirds, 0.2),
    Norm.L1: (prox_l1, 0.2),
    Norm.L2: (prox_l2, 0.02),
    Norm.LINF: (prox_linf, 0.02),
}
"""The operator, and the least weight in its metric, over the largest of the image."""


class PDPGD(MinimumDistanceAttack):
    """Draws at random only where a search found nothing and another one follows.

    Costs `steps` forwards and backwards an image, and `refine` + 2 forwards for the search at the end, `refine` in L0.
    """

    name = "pdpgd"
    title = "PDPGD"
    summary = "primal-dual proximal gradient descent (Matyasko & Chau 2021)"
    norms = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)

    steps: PositiveInt = 200
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        def begin(centers: Tensor) -> Descent:
            mean, square = RunningMean.begin(centers), RunningRoot.begin(centers)
            return ProximalDescent(*OPERATORS[self.norm], -centers, 1 - centers, mean, square)

        best = search(classifier, images, streams, self.norm, self.steps, begin)
        final = thin if self.norm is Norm.L0 else shrink
        return Candidates(final(classifier, images, best, self.refine))


@dataclass
class ProximalDescent:
    """By Adam on the loss, then by a proximal operator on the price of the distance, for changes in [low, high]."""

    operator: Proximal
    least: float
    low: Tensor
    high: Tensor
    mean: RunningMean
    square: RunningRoot

    def __call__(self, change: Tensor, gradient: Tensor, price: Tensor, step: Tensor) -> Tensor:
        weight = self.square.take(gradient)
        moved = change - column(step, change) * self.mean.take(gradient) / weight
        even = weight.maximum(self.least * weight.flatten(1).amax(1).reshape(-1, 1, 1, 1))
        return self.operator(moved, price * step, even, self.low, self.high)
