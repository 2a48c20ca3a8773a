"""What the tests of APGD and of the ensemble share: one call that runs them, and their strong settings."""

from __future__ import annotations

from typing import Any

import torch

from robusteval.attacks.apgd import APGD
from robusteval.attacks.auto import Auto
from robusteval.attacks.base import Attack, Candidates
from robusteval.attacks.search.losses import Loss
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

SMALL: dict[str, Any] = {"iterations": 25, "queries": 30}


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: Attack, classifier: Classifier, images: Images, budget: float, seed: int = 0) -> Candidates:
    radius = torch.full((len(images),), budget, dtype=images.pixels.dtype)
    return attack.run(classifier.metered(len(images)), images, radius, streams(images, seed))


def strong(norm: Norm) -> list[Attack]:
    found: list[Attack] = [
        APGD(norm=norm, iterations=40),
        APGD(norm=norm, iterations=40, loss=Loss.DLR, restarts=2),
        APGD(norm=norm, iterations=40, targets=9),
        APGD(norm=norm, iterations=40, targets=4, finalists=1),
        Auto(norm=norm, **SMALL),
    ]
    return [*found, APGD(norm=norm, iterations=40, targets=4, shrinking=True)] if norm is Norm.L1 else found
