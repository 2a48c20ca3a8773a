"""FGSM: one step along the gradient of the loss.

Goodfellow et al. (2015) in Linf; in L1 and L2 along the Hölder maximiser of OpNorm Lemma 1 (Eq. 16). The step has the
whole budget, then it is cut to the box. Labels are the true ones (SGR takes the predicted ones, which are the
same: only correctly classified images are attacked).
"""

from __future__ import annotations

from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.norms import BALLS
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class FGSM(FixedBudgetAttack):
    """The fast gradient (sign) method: one forward, one backward."""

    name = "fgsm"
    title = "FGSM"
    summary = "one step along the gradient (Goodfellow et al. 2015; OpNorm Lemma 1)"
    norms = BALLS

    loss: Loss = Loss.CROSS_ENTROPY

    def passes_within(self, images: int, classes: int) -> Passes:
        return Passes.both(images)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        gradient, _, _ = classifier.gradient(images.pixels, Goal(self.loss, images.labels))
        ball = Ball.around(images.pixels, self.norm, budget)
        return Candidates(ball.climb(images.pixels, gradient, 1.0))
