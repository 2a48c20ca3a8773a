"""Gaussian noise robustness: up to which noise does the prediction stay what it was?"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.norms import Norm
from robusteval.streams import Streams


class GaussianNoise(ImageMetric):
    """Whether noise N(0, sigma^2 I) leaves the clean prediction (not the label) as it is.

    Moments section 4. At each sigma: `kept` is 1 if none of `samples` noisy copies changed the prediction, else
    0; `kept_single` is the same of a single copy with noise of size exactly sigma * sqrt(n), n the number of
    pixel values, which is nearly the mean size of the noise. `noise_area` and `noise_area_single`, at 0, are
    their means over the sigmas. The noise is not clipped to [0, 1], as in eq. 4. Sigma 0 keeps by definition
    and costs nothing. An image leaves a sigma at its first change: up to 1 + samples forwards a sigma.
    """

    name: ClassVar[str] = "gaussian-noise"
    summary: ClassVar[str] = "share of Gaussian noise levels that keep the prediction (Moments, section 4)"

    sigmas: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = tuple(i / 58 for i in range(30))
    """Standard deviations in pixel units; by default the paper's 30 values evenly in [0, 0.5]."""
    samples: PositiveInt = 10
    """m of the paper, which does not say its value."""

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        clean = classifier.predict(images.pixels).argmax(1)
        single = torch.stack([self._single(classifier, images.pixels, clean, streams, s) for s in self.sigmas])
        kept = torch.stack([self._all(classifier, images.pixels, clean, streams, s) for s in self.sigmas])
        curves = {"kept": kept.double(), "kept_single": single.double()}
        areas = {"noise_area": curves["kept"].mean(0), "noise_area_single": curves["kept_single"].mean(0)}
        return [
            *(
                Measurement(quantity, sigma, values)
                for quantity, curve in curves.items()
                for sigma, values in zip(self.sigmas, curve, strict=True)
            ),
            *(Measurement(quantity, 0, values) for quantity, values in areas.items()),
        ]

    def _single(self, classifier: Classifier, pixels: Tensor, clean: Tensor, streams: Streams, sigma: float) -> Tensor:
        """Whether one noise of size sigma * sqrt(n) keeps the prediction, (N,) bool."""
        if sigma == 0:
            return torch.ones_like(clean, dtype=torch.bool)
        noise = Norm.L2.scale_to(streams.normal(*pixels.shape[1:]), sigma * math.sqrt(pixels[0].numel()))
        return classifier.predict(pixels + noise).argmax(1) == clean

    def _all(self, classifier: Classifier, pixels: Tensor, clean: Tensor, streams: Streams, sigma: float) -> Tensor:
        """Whether every one of `samples` noises keeps the prediction, (N,) bool.

        What an image draws depends on its own predictions only, so dropping the others changes nothing.
        """
        kept = torch.ones_like(clean, dtype=torch.bool)
        for _ in range(self.samples if sigma > 0 else 0):
            rows = kept.nonzero()[:, 0]
            if not len(rows):
                break
            noise = sigma * streams.select(rows).normal(*pixels.shape[1:])
            predicted = classifier.select(rows).predict(pixels[rows] + noise).argmax(1)
            kept[rows] = predicted == clean[rows]
        return kept
