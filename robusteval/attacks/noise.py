"""Uniform noise in the ball: the baseline that every attack must beat (SGR's RAND)."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack
from robusteval.attacks.sampling import worst_of
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams


class UniformNoise(Attack):
    """The worst of `samples` points uniform in the ball, cut to the box."""

    name = "uniform-noise"
    summary = "worst of many points uniform in the ball: the baseline (SGR's RAND)"
    norms = (Norm.L2, Norm.LINF)

    samples: PositiveInt = 100

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        assert budget is not None

        def draw(own: Streams, k: int) -> Tensor:
            return budget * torch.stack([own.in_ball(self.norm, *images.shape) for _ in range(k)], dim=1)

        ball = Ball.around(images.pixels, self.norm, budget)
        return worst_of(classifier, images, ball, draw, self.samples, streams)
