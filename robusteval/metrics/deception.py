"""How sure the model is where it is wrong: its confidence at the closest witnesses of an attack."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import AtWitnesses, ImageMetric, Measurement
from robusteval.models.classifier import Classifier


class Deception(AtWitnesses, ImageMetric):
    """`deceptive_confidence`, the largest softmax probability of a wrong class at the closest witness of the attack
    `witnesses`, and `deceptive_class`, which class that is: the one predicted, since a witness is misclassified.

    SmoothKernels section 4.1 (figure 2) and appendix D (figures 38, 39): the most deceptive example of a class is the
    one whose wrong prediction is the most confident. The paper averages the confidence over its models; a run has
    one. NaN where the attack found no witness or the image itself is misclassified. An attack that searches the
    closest witness ends at the boundary, where two classes share the confidence. One forward a witness.
    """

    name: ClassVar[str] = "deception"
    title: ClassVar[str] = "Most deceptive examples"
    summary: ClassVar[str] = "confidence of the wrong prediction at the witnesses (SmoothKernels, appendix D)"
    quantities = (
        Quantity(name="deceptive_confidence", title="confidence of the wrong prediction"),
        Quantity(name="deceptive_class", title="wrong class"),
    )

    witnesses: str
    """The label of the attack in the protocol."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(images)

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        assert witnesses is not None
        confidence = torch.full((len(images),), torch.nan, dtype=torch.float64, device=images.pixels.device)
        wrong = confidence.clone()
        found = witnesses.flatten(1).isfinite().all(1).nonzero()[:, 0]
        if len(found):
            logits = classifier.select(found).predict(witnesses[found]).double()
            others = logits.softmax(1).scatter(1, images.labels[found, None], -1.0)
            top = others.max(1)
            confidence[found], wrong[found] = top.values, top.indices.double()
        return [Measurement("deceptive_confidence", 0, confidence), Measurement("deceptive_class", 0, wrong)]
