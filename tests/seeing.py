"""What the tests of what the model sees share: affine networks whose maxima and distances are known exactly."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metric_cases import F64, images_of
from oracles import affine, random_images
from robusteval.core.images import Images
from robusteval.metrics.base import Observation
from robusteval.models.classifier import Classifier


def statistics(seen: Observation, quantity: str) -> dict[float, float]:
    return {s.at: s.value for s in seen.statistics if s.quantity == quantity}


def oracle(seed: int, classes: int = 5) -> tuple[Classifier, Tensor, Tensor]:
    classifier, weight, bias = affine(seed, classes=classes)
    return classifier.to("cpu", F64), torch.tensor(weight), torch.tensor(bias)


def blank(classifier: Classifier, dtype: torch.dtype = F64) -> Images:
    return images_of(torch.zeros(1, *classifier.input_shape, dtype=dtype))


def centred(classifier: Classifier, seed: int, n: int, spread: float) -> Images:
    """Images away from the box, labelled as the model sees them."""
    pixels = 0.5 + spread * (random_images(seed, n, classifier).pixels.double() - 0.5)
    images = images_of(pixels)
    return replace(images, labels=classifier.predict(pixels).argmax(1))
