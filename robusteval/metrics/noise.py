"""Noise robustness: up to which noise does the prediction stay what it was?"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier
from robusteval.numerics.noise import named_classes

Distribution = Literal["gaussian", "uniform"]


class NoiseRobustness(ImageMetric):
    """Whether noise of standard deviation sigma leaves the clean prediction (not the label) as it is.

    Moments section 4, for noise that is independent in each pixel: N(0, sigma^2), or uniform in sqrt(3) [-sigma,
    sigma]. At each sigma: `kept` is 1 if none of `samples` noisy copies changed the prediction, else 0; `kept_single`
    is the same of a single copy with noise scaled to the size sigma * sqrt(n), n the number of pixel values: the noise
    of mean energy. `noise_area` and `noise_area_single`, at 0, are their means over the sigmas.

    An image leaves a sigma at its first change. Without `early_stop` all samples are drawn, and `kept_probability` is
    the share that kept the prediction: an unbiased estimate of the probability q of eq. 4, with standard error
    sqrt(q (1 - q) / samples); `noise_area_probability` is its mean.

    The noise is not clipped to [0, 1], as in eq. 4. Sigma 0 keeps by definition and costs nothing; any other takes at
    most 1 + samples forwards. An answer that is not finite names no class and keeps none; `non_finite`, at 0, is how
    many there were of all that were asked for, the clean one among them.
    """

    name: ClassVar[str] = "noise"
    title: ClassVar[str] = "Noise"
    summary: ClassVar[str] = "share of noise levels that keep the prediction, Gaussian or uniform (Moments, section 4)"
    quantities = (
        Quantity(name="kept", title="all noisy copies keep it"),
        Quantity(name="kept_single", title="one copy with noise of that exact size keeps it"),
        Quantity(name="kept_probability", title="mean share of copies that keep it"),
        Quantity(name="noise_area", title="area where all noisy copies keep it"),
        Quantity(name="noise_area_single", title="area where one copy of that exact size keeps it"),
        Quantity(name="noise_area_probability", title="area under the mean share of copies that keep it"),
        Quantity(name="non_finite", title="answers that are not finite"),
    )

    distribution: Distribution = "gaussian"
    sigmas: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = tuple(i / 58 for i in range(30))
    """Standard deviations in pixel units; by default the paper's 30 values evenly in [0, 0.5]."""
    samples: PositiveInt = 10
    """m of the paper, which does not say its value."""
    early_stop: bool = True
    """Whether an image is left alone at a sigma once its prediction changed."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(len(self.sigmas) * self.samples) * images

    @property
    def label(self) -> str:
        return f"{self.distribution}-{self.name}"

    def heading(self, source: str | None = None) -> str:
        return f"{self.distribution.capitalize()} {super().heading(source).lower()}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        clean = named_classes(classifier.predict(images.pixels))
        lost = (clean < 0).long()
        single = torch.stack([self._single(classifier, images.pixels, clean, lost, streams, s) for s in self.sigmas])
        count = torch.stack([self._count(classifier, images.pixels, clean, lost, streams, s) for s in self.sigmas])
        curves = {"kept": (count == self.samples).double(), "kept_single": single.double()}
        if not self.early_stop:
            curves["kept_probability"] = count.double() / self.samples
        return [
            *(
                Measurement(quantity, sigma, values)
                for quantity, curve in curves.items()
                for sigma, values in zip(self.sigmas, curve, strict=True)
            ),
            *(
                Measurement(quantity.replace("kept", "noise_area"), 0, curve.mean(0))
                for quantity, curve in curves.items()
            ),
            Measurement("non_finite", 0, lost.double()),
        ]

    def _single(
        self, classifier: Classifier, pixels: Tensor, clean: Tensor, lost: Tensor, streams: Streams, sigma: float
    ) -> Tensor:
        """Whether one noise of size sigma * sqrt(n) keeps the prediction, (N,) bool; counts in `lost` what names no
        class."""
        if sigma == 0:
            return clean >= 0
        size = sigma * math.sqrt(pixels[0].numel())
        noise = Norm.L2.scale_to(unit_noise(self.distribution, streams, *pixels.shape[1:]), size)
        named = named_classes(classifier.predict(pixels + noise))
        lost += named < 0
        return (named == clean) & (named >= 0)

    def _count(
        self, classifier: Classifier, pixels: Tensor, clean: Tensor, lost: Tensor, streams: Streams, sigma: float
    ) -> Tensor:
        """How many of `samples` noises keep the prediction, (N,) int64; with `early_stop` those before the first that
        does not. Counts in `lost` what names no class.

        What an image draws depends on its own predictions only, so dropping the others changes nothing.
        """
        if sigma == 0:
            return self.samples * (clean >= 0)
        count = torch.zeros_like(clean)
        for drawn in range(self.samples):
            rows = ((count == drawn) | (not self.early_stop)).nonzero()[:, 0]
            if not len(rows):
                break
            noise = sigma * unit_noise(self.distribution, streams.select(rows), *pixels.shape[1:])
            named = named_classes(classifier.select(rows).predict(pixels[rows] + noise))
            lost[rows] += named < 0
            count[rows] += (named == clean[rows]) & (named >= 0)
        return count


def unit_noise(distribution: Distribution, streams: Streams, *shape: int) -> Tensor:
    """Independent draws of mean 0 and variance 1, (N, *shape)."""
    return streams.normal(*shape) if distribution == "gaussian" else math.sqrt(3) * (2 * streams.uniform(*shape) - 1)
