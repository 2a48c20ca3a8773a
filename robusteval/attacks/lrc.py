"""LRC: the worst of 100 draws of long-range correlated noise.

SGR section 4.3: z ~ N(0, Sigma) with unit variance, covariance exp(-r / zeta) within a channel and half of that across
channels, r the distance of two pixels in pixels, zeta in 1, 2, 4, 8, 16; or Sigma estimated from a data set, here
rescaled to a mean diagonal of one. robusteval/correlated.py draws z.

Deviation: SGR perturbs by eps * z, which lies in no ball. Here z is scaled to the budget's size, budget * z / |z|, so
that the attack has a budget like every other. In L2, budget = eps * sqrt(n) for n pixels then makes eps the root mean
square of the perturbation, as it is on average in SGR. SGR speaks of raw second moments of a data set; the mean image
is subtracted here, as in a covariance.
"""

from __future__ import annotations

from functools import lru_cache

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.long_range import correlated, from_patterns, patterns_of
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.sampling import worst_of
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.data import read_images
from robusteval.models.classifier import Classifier


class LRC(FixedBudgetAttack):
    """Long-range correlated noise of decay length `zeta`, in pixels, or with the covariance of a data set."""

    name = "lrc"
    title = "LRC"
    summary = "worst of 100 long-range correlated Gaussian perturbations (SGR, section 4.3)"
    norms = (Norm.L2, Norm.LINF)
    follows = "outputs"

    zeta: PositiveFloat = 8.0
    samples: PositiveInt = 100
    images: str | None = None
    """A data set, named as for `robusteval audit --data`, whose covariance takes the place of zeta's."""
    limit: PositiveInt = 1000
    """Of that data set, the first so many images."""

    @property
    def says(self) -> str:
        drawn = f"covariance of {self.images}" if self.images else f"zeta {self.zeta:g}"
        return f" worst of {self.samples}, {drawn}{super().says}"

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        patterns = None if self.images is None else _patterns(self.images, self.limit)
        if patterns is not None and patterns.shape[1:] != images.shape:
            wanted, got = ("x".join(map(str, shape)) for shape in (images.shape, patterns.shape[1:]))
            raise UnsupportedError(f"expected images of shape {wanted} in {self.images} for lrc, got {got}")

        def draw(own: Streams, k: int) -> Tensor:
            z = correlated(own, k, images.shape, self.zeta) if patterns is None else from_patterns(own, k, patterns)
            return self.norm.scale_to(z.flatten(0, 1), 1.0).view_as(z)

        ball = Ball.around(images.pixels, self.norm, budget)
        return Candidates(worst_of(classifier, images, ball, draw, self.samples, streams))


@lru_cache(maxsize=1)
def _patterns(images: str, limit: int) -> Tensor:
    return patterns_of(read_images(images, limit).pixels)
