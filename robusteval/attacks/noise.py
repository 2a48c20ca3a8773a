"""Random noise: the baseline that every attack must beat.

SGR's RAND is uniform. Moments (table 4) attacks with additive uniform and Gaussian noise (AUA, AGA) of growing size
until the prediction changes, and reports the mean squared perturbation: `minimum_distance = true`.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.sampling import worst_of
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Noise(FixedBudgetAttack):
    """The worst of `samples` draws, cut to the box."""

    norms = (Norm.L2, Norm.LINF)
    follows = "outputs"

    samples: PositiveInt = 100

    def passes_within(self, images: int, classes: int) -> Passes:
        return Passes(self.samples) * images

    @abstractmethod
    def unit(self, streams: Streams, shape: tuple[int, int, int]) -> Tensor:
        """One draw for each image within the unit ball of `norm`, (N, C, H, W)."""

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        def draw(own: Streams, k: int) -> Tensor:
            return torch.stack([self.unit(own, images.shape) for _ in range(k)], dim=1)

        ball = Ball.around(images.pixels, self.norm, budget)
        return Candidates(worst_of(classifier, images, ball, draw, self.samples, streams))


class UniformNoise(Noise):
    """Points uniform in the ball."""

    name = "uniform-noise"
    title = "Uniform noise"
    summary = "worst of many points uniform in the ball (SGR's RAND, Moments' AUA)"

    def unit(self, streams: Streams, shape: tuple[int, int, int]) -> Tensor:
        return streams.in_ball(self.norm, *shape)


class GaussianNoise(Noise):
    """Independent normal pixels, scaled to the size of the budget."""

    name = "gaussian-noise"
    title = "Gaussian noise"
    summary = "worst of many white Gaussian perturbations of the budget's size (Moments' AGA)"

    def unit(self, streams: Streams, shape: tuple[int, int, int]) -> Tensor:
        return self.norm.scale_to(streams.normal(*shape), 1.0)
