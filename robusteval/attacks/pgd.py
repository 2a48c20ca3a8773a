"""PGD: projected gradient ascent inside the ball.

Madry et al. (2018); OpNorm Eqs. 15-18: x <- project(x + step * steepest(gradient)), from a random start uniform in the
ball. SGR (table 2) takes 10 steps of budget/5. Deviations: labels are the true ones, and a picture that is
misclassified at any iterate is returned at once.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack
from robusteval.attacks.losses import Loss, objective, random_targets
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams


class PGD(Attack):
    """Projected gradient descent with restarts; `target = "random"` draws a wrong class per image and restart.

    Costs `steps` + 1 forwards and `steps` backwards a restart for an image that is never fooled; an image that is
    leaves the batch at once.
    """

    name = "pgd"
    summary = "projected gradient ascent (Madry et al. 2018; OpNorm Eqs. 15-18)"
    norms = (Norm.L2, Norm.LINF)

    steps: PositiveInt = 20
    step: PositiveFloat = 0.2
    """Step size relative to the budget."""
    restarts: PositiveInt = 1
    random_start: bool = True
    loss: Loss = Loss.CROSS_ENTROPY
    target: Literal["random"] | None = None

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        assert budget is not None
        best = images.pixels.clone()
        rows = torch.arange(len(images), device=best.device)
        for _ in range(self.restarts):
            view, chosen, own = classifier.select(rows), images.select(rows), streams.select(rows)
            best[rows], fooled = self._climb(view, chosen, budget, own)
            rows = rows[~fooled]
            if not len(rows):
                break
        return best

    def _climb(self, classifier: Classifier, images: Images, budget: float, streams: Streams) -> tuple[Tensor, Tensor]:
        """One restart: the first misclassified iterate of each image, else the last; and which were fooled."""
        ball, x, targets = self.begin(classifier, images, budget, streams)
        labels = images.labels
        final, fooled = x.clone(), torch.zeros_like(labels, dtype=torch.bool)
        rows = torch.arange(len(images), device=x.device)
        for _ in range(self.steps):
            gradient, _, logits = classifier.gradient(x, objective(self.loss, labels, targets))
            wrong = logits.argmax(1) != labels
            if wrong.any():
                final[rows[wrong]], fooled[rows[wrong]] = x[wrong], True
                kept = ~wrong
                classifier, ball, x, gradient = classifier.select(kept), ball.select(kept), x[kept], gradient[kept]
                rows, labels = rows[kept], labels[kept]
                targets = None if targets is None else targets[kept]
                if not len(rows):
                    return final, fooled
            x = self.ascend(ball, x, gradient)
        final[rows] = x
        fooled[rows] = classifier.predict(x).argmax(1) != labels
        return final, fooled

    def begin(
        self, classifier: Classifier, images: Images, budget: float, streams: Streams
    ) -> tuple[Ball, Tensor, Tensor | None]:
        """The ball, the start in it, and the classes to move towards."""
        ball = Ball.around(images.pixels, self.norm, budget)
        start = images.pixels
        if self.random_start:
            start = ball.nearest(start + budget * streams.in_ball(self.norm, *images.shape))
        if self.target is None:
            return ball, start, None
        return ball, start, random_targets(images.labels, classifier.num_classes, streams)

    def ascend(self, ball: Ball, x: Tensor, gradient: Tensor) -> Tensor:
        """One step: OpNorm Eq. 15."""
        return ball.nearest(x + self.step * ball.radius * self.norm.steepest(gradient))
