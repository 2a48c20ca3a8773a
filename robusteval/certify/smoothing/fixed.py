"""Randomized smoothing: a radius of the noisy majority vote that holds with a stated probability."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt

from robusteval.certify.base import Radii, State
from robusteval.certify.smoothing.base import SmoothedOnce
from robusteval.certify.smoothing.votes import votes
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.numerics.binomial import certified_radius


class Smoothing(SmoothedOnce):
    """The L2 radius within which g(x) = the class that f gives most often to x + N(0, sigma^2 I) stays the same.

    Cohen, Rosenfeld and Kolter (2019), CERTIFY: `n0` noisy samples choose a class, `n` fresh ones
    bound its probability from below by p (Clopper-Pearson, one-sided, at level 1 - alpha), and the radius is
    sigma * Phi^-1(p); p <= 1/2 abstains with radius 0. With probability at least 1 - alpha over the noise, the
    radius of an image that is not abstained on is right. It is a bound of the smoothed classifier, not of f,
    around the class `predicted`, which need not be the label. The noise leaves the box [0, 1] unclipped, as the
    theorem needs. n0 + n forward evaluations an image. `smoothing_count` of `smoothing_samples` votes, at sigma, are
    kept: binomial.certified_radius makes the radius of them. An answer of f that is not finite is a vote for nobody,
    which only lowers p; `non_finite` counts these among all n0 + n.
    """

    name: ClassVar[str] = "smoothing"
    title: ClassVar[str] = "Randomized smoothing"
    summary: ClassVar[str] = "randomized smoothing with Gaussian noise (Cohen et al. 2019)"
    quantities = (
        Quantity(name="smoothing_count", title="votes for the class"),
        Quantity(name="smoothing_samples", title="votes"),
        Quantity(name="non_finite", title="answers that are not finite"),
    )

    n: PositiveInt = 1000
    """Samples that bound its probability. The radius is at most sigma * Phi^-1(alpha^(1/n))."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.n0 + self.n) * images

    def certifies(self, n: int) -> bool:
        return bool(certified_radius(n, n, self.alpha, self.sigma) > 0)

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        first = votes(classifier, images.pixels, streams, self.sigma, self.n0)
        second = votes(classifier, images.pixels, streams, self.sigma, self.n)
        chosen = first.argmax(1)
        count = second.gather(1, chosen[:, None])[:, 0]
        radius = torch.from_numpy(certified_radius(count.cpu(), self.n, self.alpha, self.sigma)).to(chosen.device)
        return Radii(
            radius,
            chosen,
            radius <= 0,
            (
                ("smoothing_count", self.sigma, count.double()),
                ("smoothing_samples", self.sigma, torch.full_like(radius, self.n)),
                ("non_finite", self.sigma, (self.n0 + self.n - (first + second).sum(1)).double()),
            ),
        )
