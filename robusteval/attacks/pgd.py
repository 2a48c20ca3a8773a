"""PGD: projected gradient ascent inside the ball.

Madry et al. (2018); OpNorm Eqs. 15-18: x <- project(x + step * steepest(gradient)), from a random start uniform in the
ball. Deviation: an image that is misclassified at any iterate is returned at once, whatever its target.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ascent import Ascent
from robusteval.core.images import Images
from robusteval.core.norms import column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import answered, misclassified
from robusteval.models.classifier import Classifier


class PGD(Ascent):
    """Projected gradient ascent with restarts, each with its own start and random target.

    Costs `steps` + 1 forwards and `steps` backwards a restart for an image that is never fooled (and one forward for a
    goal that depends on the clean logits); an image that is fooled leaves the batch at once.
    """

    name = "pgd"
    title = "PGD"
    summary = "projected gradient ascent (Madry et al. 2018; OpNorm Eqs. 15-18)"

    restarts: PositiveInt = 1

    def passes_within(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(1)) * (self.restarts * images)

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        best = images.pixels.clone()
        rows = torch.arange(len(images), device=best.device)
        for _ in range(self.restarts):
            best[rows], fooled = self._climb(*keep(rows, classifier, images, budget, streams))
            rows = rows[~fooled]
            if not len(rows):
                break
        return Candidates(best)

    def _climb(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """One restart: the first misclassified iterate of each image, else the last; and which were fooled."""
        ball, x, goal = self.begin(classifier, images, budget, streams)
        labels = images.labels
        final, fooled = x.clone(), torch.zeros_like(labels, dtype=torch.bool)
        rows = torch.arange(len(images), device=x.device)
        for _ in range(self.steps):
            gradient, _, logits = classifier.gradient(x, goal)
            wrong = misclassified(logits, labels)
            if wrong.any():
                final[rows[wrong]], fooled[rows[wrong]] = x[wrong], True
                classifier, ball, goal, x, gradient, logits, rows, labels = keep(
                    ~wrong, classifier, ball, goal, x, gradient, logits, rows, labels
                )
                if not len(rows):
                    return final, fooled
            # Where the model gives no finite answer there is no way on: half of the way back.
            ahead, back = self.ascend(ball, x, gradient), (x + ball.centers) / 2
            x = torch.where(column(answered(logits), x), ahead, back)
        final[rows] = x
        fooled[rows] = classifier.misclassifies(x, labels)
        return final, fooled
