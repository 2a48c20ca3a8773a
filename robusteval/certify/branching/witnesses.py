"""Adversarial examples that branch and bound meets: the images where the bounds of its sub-problems are least are
starts (BaB-Attack, Zhang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.ball import DIAMETER, Ball
from robusteval.attacks.search.losses import margin
from robusteval.certify.refuting import has_gradient
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

LENGTHS = (0.25, 0.25, 0.12, 0.12, 0.06, 0.06)
"""Of the steps of gradient ascent from the best start of each image, in radii."""


class Witnesses:
    """The closest adversarial example of each of M images so far: examples (M, C, H, W) and their distances (M,),
    infinite where there is none."""

    def __init__(self, classifier: Classifier, images: Images, norm: Norm) -> None:
        self.classifier, self.images, self.norm = classifier, images, norm
        self.lengths = LENGTHS if has_gradient(classifier, images.pixels[:1]) else ()
        self.examples = images.pixels.clone()
        self.distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.pixels.device)

    def offer(self, of: Tensor, points: Tensor) -> Tensor:
        """Take the images `points` (P, C, H, W), each of the image `of` (P,), for what they are; by how much each is
        misclassified (P,)."""
        labels = self.images.labels[of]
        logits = self.classifier.select(of).predict(points)
        self._keep(of, points, misclassified(logits, labels))
        return margin(logits, labels)

    def least(self, of: Tensor, pixels: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """The images (P, C, H, W) of the balls of radii eps (M,) where linear functions with coefficients `pixels`
        (P, C, H, W) are least, and by how much each is misclassified (P,). They are offered."""
        ball = Ball.around(self.images.pixels[of], self.norm, eps[of])
        points = ball.climb(ball.centers, -pixels.to(ball.centers), DIAMETER)
        return points, self.offer(of, points)

    def climb(self, of: Tensor, points: Tensor, eps: Tensor) -> None:
        """Offer what gradient ascent from images (P, C, H, W) passes within the balls."""
        ball = Ball.around(self.images.pixels[of], self.norm, eps[of])
        labels, view = self.images.labels[of], self.classifier.select(of)
        for length in self.lengths:
            gradient, _, _ = view.gradient(points, lambda logits: margin(logits, labels))
            points = ball.climb(points, gradient, length)
            self.offer(of, points)

    def _keep(self, of: Tensor, points: Tensor, wrong: Tensor) -> None:
        sizes = self.norm.size(points.double() - self.images.pixels[of].double())
        for row in wrong.nonzero()[:, 0].tolist():
            i = int(of[row])
            if sizes[row] < self.distances[i]:
                self.distances[i], self.examples[i] = sizes[row], points[row]
