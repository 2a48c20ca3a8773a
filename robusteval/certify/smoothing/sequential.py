"""Sequential randomized smoothing: as many samples as the question needs, at the same guarantee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from robusteval.certify.base import Radii, State
from robusteval.certify.smoothing.base import SmoothedOnce
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.certify.smoothing.votes import votes
from robusteval.core.images import Images
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.numerics.binomial import anytime_lower, anytime_radius, anytime_upper, gaussian_radius
from robusteval.numerics.noise import BLOCK

Counts = NDArray[np.int64]

Poll = Callable[[Counts, int], Counts]
"""Called with rows (M,) of images and a number of fresh samples; gives the hits among them (M,)."""


class SmoothingSequential(SmoothedOnce):
    """`smoothing` with an anytime-valid bound: sampling stops for each image as soon as its question is decided.

    The class is chosen by `n0` samples as in CERTIFY (Cohen, Rosenfeld and Kolter 2019). Its probability is then
    bounded by a confidence sequence (binomial.anytime_lower), which holds at all sample sizes together with
    probability at least 1 - alpha: the radius sigma * Phi^-1(lower bound) at the stopping time is right with
    probability at least 1 - alpha whatever the reason to stop, giving up included. The question is

    - with `radius`: is it certified? Yes as soon as the radius reached it; no as soon as it is out of reach;
    - without: what is the largest radius? Answered once the radius is at least 1 - `precision` times what is in reach.

    In reach is the radius that the upper sequence, at the same alpha, leaves possible, or that `n` samples could give
    if all samples to come were hits, whichever is smaller. An image still undecided after n samples keeps the radius
    that it has. Rounds grow by an eighth of what was drawn. `smoothing_count` of `smoothing_samples` votes, at sigma,
    are kept: binomial.anytime_radius makes the radius of them. It speaks of the smoothed classifier, as `smoothing`,
    and like it counts answers that are not finite.
    """

    name: ClassVar[str] = "smoothing-sequential"
    title: ClassVar[str] = "Sequential smoothing"
    summary: ClassVar[str] = "randomized smoothing that stops sampling once decided (Cohen 2019, Robbins 1970)"
    quantities = Smoothing.quantities

    radius: PositiveFloat | None = None
    """The radius in question, pixel units; None asks for the largest."""
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How far, relative, the largest radius may stay below what is in reach."""
    n: PositiveInt = 100_000
    """At most so many samples bound its probability."""

    def passes(self, images: int, classes: int) -> Passes:
        """Whether a radius is reached is known long before the last sample, as a rule."""
        return Passes(self.n0 + (self.n if self.radius is None else self.n / 4)) * images

    @property
    def limit(self) -> float | None:
        return self.radius

    def certifies(self, n: int) -> bool:
        return bool(anytime_radius(n, n, self.alpha, self.sigma) > 0)

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        first = votes(classifier, images.pixels, streams, self.sigma, self.n0)
        chosen, lost = first.argmax(1), (self.n0 - first.sum(1)).cpu().numpy()

        def poll(some: Counts, draws: int) -> Counts:
            rows = torch.from_numpy(some)
            own = images.select(rows)
            counted = votes(classifier.select(rows), own.pixels, streams.select(rows), self.sigma, draws)
            lost[some] += draws - counted.sum(1).cpu().numpy()
            hits: Counts = counted.gather(1, chosen[rows.to(chosen.device)][:, None])[:, 0].cpu().numpy()
            return hits

        count, samples = self.sample(len(images), poll)
        radius = torch.from_numpy(anytime_radius(count, samples, self.alpha, self.sigma)).to(chosen.device)
        kept = (("smoothing_count", count), ("smoothing_samples", samples), ("non_finite", lost))
        evidence = tuple((name, self.sigma, torch.from_numpy(values).to(radius)) for name, values in kept)
        return Radii(radius, chosen, radius <= 0, evidence)

    def sample(self, images: int, poll: Poll) -> tuple[Counts, Counts]:
        """Poll each image until it is decided or has n samples: hits and samples of each, (images,) both.

        All images that are still open have the same number of samples, so an image's rounds are its own affair.
        """
        count, samples = np.zeros((2, images), dtype=np.int64)
        rows, taken = np.arange(images), 0
        while len(rows) and taken < self.n:
            draws = min(max(1, taken // (8 * BLOCK)) * BLOCK, self.n - taken)
            count[rows] += poll(rows, draws)
            taken += draws
            samples[rows] = taken
            rows = rows[~self.decided(count[rows], taken)]
        return count, samples

    def decided(self, count: Counts, taken: int) -> NDArray[np.bool_]:
        """Whether `count` (N,) hits in `taken` samples answer the question, (N,)."""
        known = anytime_radius(count, taken, self.alpha, self.sigma)
        most = np.minimum(
            anytime_upper(count, taken, self.alpha),
            anytime_lower(count + (self.n - taken), self.n, self.alpha),
        )
        reach = gaussian_radius(most, self.sigma)
        if self.radius is None:
            return known >= (1 - self.precision) * reach
        return (known >= self.radius) | (reach < self.radius)
