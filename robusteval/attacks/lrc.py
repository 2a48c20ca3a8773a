"""LRC: the worst of 100 draws of long-range correlated noise.

SGR section 4.3: z ~ N(0, Sigma) with unit variance, covariance exp(-r / zeta) within a channel and half of that across
channels, r the distance of two pixels in pixels, zeta in 1, 2, 4, 8, 16; or Sigma estimated from a data set, here
rescaled to a mean diagonal of one. attacks/long_range.py draws z.

SGR perturbs by eps * z, which lies in no ball: `scaling = "as drawn"`, with eps as `strength`. Such an attack has no
budget; the judge measures what is left of each perturbation inside the box.

Deviation: by default z is scaled to the budget's size, budget * z / |z|, so that the attack has a budget like every
other. In L2, budget = eps * sqrt(n) for n pixels then makes eps the root mean square of the perturbation, as it is on
average in SGR; but all draws have the same size, where SGR's are the more unequal the longer they are correlated, and
the worst of 100 is among the large ones. SGR speaks of raw second moments of a data set; the mean image is subtracted
here, as in a covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.long_range import correlated, from_patterns, patterns_of
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.sampling import Draw, worst_of
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
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
    scaling: Literal["to the budget", "as drawn"] = "to the budget"
    """Whether each draw is scaled to the size of the budget, or by `strength`, as in the paper."""
    strength: PositiveFloat | None = None
    """eps: the standard deviation of what is added `as drawn`, before it is cut to the box."""
    unit: Literal["standardised", "pixels"] = "standardised"
    """What eps is measured in: the standard deviation of the image's own pixels, since SGR standardises each image, or
    pixels."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.samples) * images

    @model_validator(mode="after")
    def _strong(self) -> Self:
        if self.drawn and (self.strength is None or self.minimum_distance):
            raise ValueError("expected a strength, and no minimum_distance, for scaling 'as drawn'")
        if not self.drawn and self.strength is not None:
            raise ValueError(f"expected scaling 'as drawn' for a strength, got '{self.scaling}'")
        return self

    @property
    def drawn(self) -> bool:
        return self.scaling == "as drawn"

    @property
    def fixed_budget(self) -> bool:
        return super().fixed_budget and not self.drawn

    @property
    def label(self) -> str:
        return f"{super().label}-{self.strength:g}" if self.drawn else super().label

    @property
    def says(self) -> str:
        drawn = f"covariance of {self.images}" if self.images else f"zeta {self.zeta:g}"
        eps = f", eps {self.strength:g}{' of pixels' if self.unit == 'pixels' else ''}" if self.drawn else ""
        return f" worst of {self.samples}, {drawn}{eps}{super().says}"

    def run(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        if self.strength is None:
            return super().run(classifier, images, budget, streams)
        around = Noisy(images.pixels, self.strength * self._units(images.pixels))
        return Candidates(worst_of(classifier, images, around, self._noise(images), self.samples, streams))

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        noise = self._noise(images)

        def draw(own: Streams, k: int) -> Tensor:
            z = noise(own, k)
            return self.norm.scale_to(z.flatten(0, 1), 1.0).view_as(z)

        ball = Ball.around(images.pixels, self.norm, budget)
        return Candidates(worst_of(classifier, images, ball, draw, self.samples, streams))

    def _noise(self, images: Images) -> Draw:
        """Draws of z (N, k, C, H, W)."""
        if self.images is None:
            return lambda own, k: correlated(own, k, images.shape, self.zeta)
        patterns = _patterns(self.images, self.limit)
        if patterns.shape[1:] != images.shape:
            wanted, got = ("x".join(map(str, shape)) for shape in (images.shape, patterns.shape[1:]))
            raise UnsupportedError(f"expected images of shape {wanted} in {self.images} for lrc, got {got}")
        return lambda own, k: from_patterns(own, k, patterns)

    def _units(self, pixels: Tensor) -> Tensor:
        """Pixels that eps = 1 stands for, of each image (N,): as usual where images are standardised, at least
        1 / sqrt(n), lest a flat image is divided by nothing."""
        if self.unit == "pixels":
            return torch.ones_like(pixels[:, 0, 0, 0])
        return pixels.flatten(1).std(1, correction=0).clamp_min(1 / math.sqrt(pixels[0].numel()))


@dataclass(frozen=True)
class Noisy:
    """Images (N, C, H, W) moved by draws times a scale (N,), and cut to the box."""

    centers: Tensor
    scale: Tensor

    def moved(self, perturbation: Tensor) -> Tensor:
        return (self.centers + column(self.scale, perturbation) * perturbation).clamp(0, 1)

    def select(self, rows: Tensor) -> Noisy:
        return Noisy(self.centers[rows], self.scale[rows])


@lru_cache(maxsize=1)
def _patterns(images: str, limit: int) -> Tensor:
    return patterns_of(read_images(images, limit).pixels)
