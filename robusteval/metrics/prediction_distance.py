"""How far an image is from another prediction, whatever its label."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.deepfool import DeepFool
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.methods import NormedMethod, Quantity
from robusteval.core.passes import USUAL, Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.models.classifier import Classifier
from robusteval.numerics.noise import named_classes


class PredictionDistance(NormedMethod, ImageMetric):
    """The size of the smallest change that DeepFool finds of the class that the model predicts, right or wrong.

    SGR, table 1, FOOL: rho_adv of Moosavi-Dezfooli et al. (2016, Eq. 2) is the mean of `relative_distance`, the size of
    the change over that of the image, both in `norm`. SGR attacks the predicted class, so that labels play no part;
    in an attack of an audit a misclassified image is at distance 0 instead. `prediction_distance` is the size itself.
    Both are NaN where no other class was found, and where the model has no finite answer at the image. The judge
    decides what is another class. Costs what DeepFool does, and two forwards.
    """

    name: ClassVar[str] = "prediction-distance"
    title: ClassVar[str] = "Distance to another prediction"
    summary: ClassVar[str] = "size of the smallest change of the prediction by DeepFool (SGR's FOOL)"
    norms = DeepFool.norms
    quantities = (
        Quantity(name="prediction_distance", title="distance to another prediction"),
        Quantity(name="relative_distance", title="the same over the size of the image"),
    )

    steps: PositiveInt = 100
    overshoot: PositiveFloat = 0.02
    refine: NonNegativeInt = 0
    """Evaluations back towards the image, which the paper's DeepFool does not make."""

    def passes(self, images: int, classes: int) -> Passes:
        steps = min(self.steps, USUAL)
        return Passes(steps + self.refine + 2, steps * min(10, classes)) * images

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        named = named_classes(classifier.predict(images.pixels))
        far = torch.full_like(named, torch.nan, dtype=torch.float64)
        rows = (named >= 0).nonzero()[:, 0]
        if len(rows):
            seen = replace(images.select(rows), labels=named[rows])
            attack = DeepFool(norm=self.norm, steps=self.steps, overshoot=self.overshoot, refine=self.refine)
            found = attack.closest(classifier.select(rows), seen, streams.select(rows)).examples
            verdict = judge(classifier.select(rows), seen, found, self.norm, None)
            distance: Tensor = getattr(verdict, self.norm.value)
            far[rows] = distance.where(verdict.success, torch.nan)
        relative = (far / self.norm.size(images.pixels.double())).nan_to_num(torch.nan, torch.nan)
        return [Measurement("prediction_distance", 0, far), Measurement("relative_distance", 0, relative)]
