"""LRC: the worst of 100 draws of long-range correlated noise.

SGR section 4.3: z ~ N(0, Sigma) with unit variance, covariance exp(-r / zeta) within a channel and 0.5 * exp(-r / zeta)
across channels, r the distance of two pixels in pixels. Sigma is a Kronecker product, channels by space.

Deviation: SGR perturbs by eps * z, which lies in no ball. Here z is scaled to the budget's size, budget * z / |z|, so
that the attack has a budget like every other. In L2 the two agree for many pixels n: eps = budget / sqrt(n).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.ball import Ball
from robusteval.attacks.base import Attack
from robusteval.attacks.sampling import worst_of
from robusteval.classifier import Classifier
from robusteval.errors import UnsupportedError
from robusteval.images import Images
from robusteval.norms import Norm
from robusteval.streams import Streams

_MOST_PIXELS = 64 * 64
"""The spatial factor is dense: 4,096 squared in float64 is 128 MB."""


class LRC(Attack):
    """Long-range correlated noise of decay length `zeta`, in pixels."""

    name = "lrc"
    summary = "worst of 100 long-range correlated Gaussian perturbations (SGR, section 4.3)"
    norms = (Norm.L2, Norm.LINF)

    zeta: PositiveFloat = 8.0
    samples: PositiveInt = 100

    def run(self, classifier: Classifier, images: Images, budget: float | None, streams: Streams) -> Tensor:
        assert budget is not None

        def draw(own: Streams, k: int) -> Tensor:
            z = correlated(own.normal(k, *images.shape), self.zeta)
            return self.norm.scale_to(z.flatten(0, 1), budget).view_as(z)

        ball = Ball.around(images.pixels, self.norm, budget)
        return worst_of(classifier, images, ball, draw, self.samples, streams)


def correlated(white: Tensor, zeta: float) -> Tensor:
    """White noise (..., C, H, W) turned into noise with SGR's covariance, unit variance."""
    channels, height, width = white.shape[-3:]
    across, within = (f.to(white) for f in _factors(channels, height, width, zeta))
    return (across @ white.flatten(-2) @ within.mT).view_as(white)


@lru_cache(maxsize=8)
def _factors(channels: int, height: int, width: int, zeta: float) -> tuple[Tensor, Tensor]:
    """Cholesky factors of the covariance across channels (C, C) and within a channel (HW, HW), float64."""
    if height * width > _MOST_PIXELS:
        raise UnsupportedError(f"expected at most {_MOST_PIXELS} pixels a channel for lrc, got {height}x{width}")
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    within = torch.exp(-torch.cdist(places, places) / zeta)
    across = torch.full((channels, channels), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    return torch.linalg.cholesky(across), torch.linalg.cholesky(within)
