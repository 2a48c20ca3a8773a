"""What the tests of FAB and Square share: one call that runs an attack, and the distances of what it finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

EACH = pytest.mark.parametrize("norm", BALLS, ids=[n.value for n in BALLS])


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: Attack, classifier: Classifier, images: Images, budget: Tensor | None = None) -> Tensor:
    return attack.run(classifier.metered(len(images)), images, budget, streams(images)).examples


def sizes(classifier: Classifier, images: Images, candidates: Tensor, norm: Norm) -> np.ndarray:
    """The distance of each witness (N,) in float64, infinite where there is none; none leaves the box."""
    assert candidates.isfinite().all()
    assert ((candidates >= 0) & (candidates <= 1)).all()
    wrong = classifier.predict(candidates).argmax(1) != images.labels
    size = norm.size(candidates.double() - images.pixels.double())
    return torch.where(wrong, size, torch.inf).numpy()
