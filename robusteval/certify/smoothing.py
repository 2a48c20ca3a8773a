"""Randomized smoothing: a radius of the noisy majority vote that holds with a stated probability."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from robusteval.binomial import certified_radius
from robusteval.certify.base import Certificate, Radii, State
from robusteval.certify.votes import votes
from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.methods import Guarantee
from robusteval.norms import Norm
from robusteval.streams import Streams


class Smoothing(Certificate):
    """The L2 radius within which g(x) = the class that f gives most often to x + N(0, sigma^2 I) stays the same.

    Cohen, Rosenfeld and Kolter (2019), CERTIFY: `n0` noisy samples choose a class, `n` fresh ones
    bound its probability from below by p (Clopper-Pearson, one-sided, at level 1 - alpha), and the radius is
    sigma * Phi^-1(p); p <= 1/2 abstains with radius 0. With probability at least 1 - alpha over the noise, the
    radius of an image that is not abstained on is right. It is a bound of the smoothed classifier, not of f,
    around the class `predicted`, which need not be the label. The noise leaves the box [0, 1] unclipped, as the
    theorem needs. n0 + n forward evaluations an image. `smoothing_count` of `smoothing_samples` votes, at sigma, are
    kept: binomial.certified_radius makes the radius of them.
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
        chosen = votes(classifier, images.pixels, streams, self.sigma, self.n0).argmax(1)
        count = votes(classifier, images.pixels, streams, self.sigma, self.n).gather(1, chosen[:, None])[:, 0]
        radius = torch.from_numpy(certified_radius(count.cpu(), self.n, self.alpha, self.sigma)).to(chosen.device)
        return Radii(
            radius,
            chosen,
            radius <= 0,
            (
                ("smoothing_count", self.sigma, count.double()),
                ("smoothing_samples", self.sigma, torch.full_like(radius, self.n)),
            ),
        )
