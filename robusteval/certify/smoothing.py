"""Randomized smoothing: a radius of the noisy majority vote that holds with a stated probability."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.stats import beta, norm
from torch import Tensor

from robusteval.certify.base import Certificate, Radii, State
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.methods import Guarantee
from robusteval.norms import Norm
from robusteval.streams import Streams

BLOCK = 32
"""Draws an image at a time: fixed, since it shapes the random numbers."""


class Smoothing(Certificate):
    """The L2 radius within which g(x) = the class that f gives most often to x + N(0, sigma^2 I) stays the same.

    Cohen, Rosenfeld and Kolter (2019), CERTIFY: `n0` noisy samples choose a class, `n` fresh ones
    bound its probability from below by p (Clopper-Pearson, one-sided, at level 1 - alpha), and the radius is
    sigma * Phi^-1(p); p <= 1/2 abstains with radius 0. With probability at least 1 - alpha over the noise, the
    radius of an image that is not abstained on is right. It is a bound of the smoothed classifier, not of f,
    around the class `predicted`, which need not be the label. The noise leaves the box [0, 1] unclipped, as the
    theorem needs. n0 + n forward evaluations an image.
    """

    name: ClassVar[str] = "smoothing"
    summary: ClassVar[str] = "randomized smoothing with Gaussian noise (Cohen et al. 2019)"
    kind: ClassVar[Guarantee] = Guarantee.CONFIDENCE
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)

    norm: Norm = Norm.L2
    sigma: PositiveFloat = 0.25
    """Standard deviation of the noise, pixel units."""
    n0: PositiveInt = 100
    """Samples that choose the class."""
    n: PositiveInt = 1000
    """Samples that bound its probability. The radius is at most sigma * Phi^-1(alpha^(1/n))."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """The probability, for each image, that its radius is wrong."""

    @property
    def subject(self) -> str:
        return f"smooth(f, {self.sigma:g})"

    @property
    def error_probability(self) -> float:
        return self.alpha

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        chosen = self._votes(classifier, images.pixels, streams, self.n0).argmax(1)
        votes = self._votes(classifier, images.pixels, streams, self.n)
        top = votes.gather(1, chosen[:, None])[:, 0]
        radius = certified_radius(top.cpu().numpy(), self.n, self.alpha, self.sigma)
        kept = torch.from_numpy(radius).to(top.device)
        return Radii(
            kept,
            chosen,
            kept <= 0,
            (
                ("smoothing_count", 0, top.double()),
                ("smoothing_samples", 0, torch.full_like(top, self.n, dtype=torch.float64)),
            ),
        )

    def _votes(self, classifier: Classifier, pixels: Tensor, streams: Streams, draws: int) -> Tensor:
        """How often each class is predicted in `draws` noisy copies of each image, (N, K) int64.

        No more than a block of draws for a batch of pictures is held at a time.
        """
        votes = torch.zeros(len(pixels), classifier.num_classes, dtype=torch.int64, device=pixels.device)
        for rows in torch.arange(len(pixels)).split(max(1, classifier.batch_size // BLOCK)):
            view, own, x = classifier.select(rows), streams.select(rows), pixels[rows.to(pixels.device)]
            for done in range(0, draws, BLOCK):
                noise = self.sigma * own.normal(min(BLOCK, draws - done), *x.shape[1:])
                predicted = view.predict((x[:, None] + noise).flatten(0, 1)).argmax(1).view(len(rows), -1)
                votes[rows] += torch.nn.functional.one_hot(predicted, classifier.num_classes).sum(1)
        return votes


def certified_radius(count: NDArray[np.int64], samples: int, alpha: float, sigma: float) -> NDArray[np.float64]:
    """sigma * Phi^-1(p), p the Clopper-Pearson lower bound of `count` (N,) of `samples`; 0 where p <= 1/2.

    Each of the three steps is rounded down to the next float.
    """
    p = np.nextafter(beta.ppf(alpha, np.maximum(count, 1), samples - np.maximum(count, 1) + 1), 0)
    p = np.where(count > 0, p, 0.0)
    quantile = np.nextafter(norm.ppf(p), -np.inf)
    return np.where(p > 0.5, np.maximum(np.nextafter(sigma * quantile, 0), 0.0), 0.0)
