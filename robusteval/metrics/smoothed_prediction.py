"""What the smoothed classifier predicts, or that its votes do not say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from robusteval.certify.smoothing.votes import votes
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier
from robusteval.numerics.binomial import fewest, majority


class SmoothedPrediction(ImageMetric):
    """The class that f gives most often to x + N(0, sigma^2 I): the prediction of the smoothed classifier g.

    Cohen, Rosenfeld and Kolter (2019), PREDICT: of `n` noisy samples the two most frequent classes are compared by
    the two-sided binomial test of equal probability; above level alpha it abstains. With probability at least
    1 - alpha over the noise, an image's class is g(x) or it abstains (their proposition 1). At sigma: `smoothed_class`
    (NaN where it abstains), `smoothed_abstained` (1 or 0), `smoothed_count` and `smoothed_count_second` (the votes of
    the two), and `non_finite`, the answers that are no vote because they are not finite. It is a prediction without a
    radius: that is what `smoothing` is for. n forward evaluations an image.
    """

    name: ClassVar[str] = "smoothed-prediction"
    title: ClassVar[str] = "Smoothed prediction"
    summary: ClassVar[str] = "the smoothed classifier's prediction, with abstention (Cohen et al. 2019, PREDICT)"
    quantities = (
        Quantity(name="smoothed_class", title="class of the smoothed classifier"),
        Quantity(name="smoothed_abstained", title="abstained"),
        Quantity(name="smoothed_count", title="votes for the first class"),
        Quantity(name="smoothed_count_second", title="votes for the second class"),
        Quantity(name="non_finite", title="answers that are not finite"),
    )

    sigma: PositiveFloat = 0.25
    """Standard deviation of the noise, pixel units."""
    n: PositiveInt = 100
    """Samples."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """The probability, for each image, of a class that is not g's."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.n) * images

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self._tells(self.n):
            raise ValueError(
                f"expected n of at least {fewest(self._tells)} at alpha = {self.alpha:g}, got {self.n}: not even votes "
                "for one class alone would name it"
            )
        return self

    def _tells(self, n: int) -> bool:
        return bool(majority(n, 0, self.alpha))

    @property
    def says(self) -> str:
        return f", sigma {self.sigma:g}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        counts = votes(classifier, images.pixels, streams, self.sigma, self.n)
        top = counts.topk(2)
        (first, second), named = top.values.double().T, top.indices[:, 0].double()
        clear = torch.from_numpy(majority(first.cpu(), second.cpu(), self.alpha)).to(named.device)
        measured = {
            "smoothed_class": torch.where(clear, named, torch.nan),
            "smoothed_abstained": (~clear).double(),
            "smoothed_count": first,
            "smoothed_count_second": second,
            "non_finite": (self.n - counts.sum(1)).double(),
        }
        return [Measurement(quantity, self.sigma, values) for quantity, values in measured.items()]
