"""The minimum-distance attacks of foolbox that see decisions only, and their settings; see foolbox_attacks.py."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor

from robusteval.attacks.external.foolbox_bridge import FoolboxAttack, StartingAttack
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Boundary(StartingAttack):
    """Walks along the decision boundary towards the image; needs decisions only, no gradients or scores.

    Deviation: the starting point is drawn towards the image first.
    """

    name = "boundary"
    title = "Boundary attack"
    summary = "gradient-free walk along the decision boundary (Brendel et al. 2018; foolbox)"
    kinds: ClassVar = {Norm.L2: "BoundaryAttack"}
    norms = tuple(kinds)
    follows = "outputs"

    steps: PositiveInt = 5000

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.steps) * images

    def starts(self, classifier: Classifier, images: Images, streams: Streams) -> tuple[Tensor, Tensor]:
        starts, rows = super().starts(classifier, images, streams)
        return shrink(classifier, images, starts, 10), rows


class HopSkipJump(StartingAttack):
    """Gradient steps from decisions only: the normal of the boundary is estimated from noise around a point on it."""

    name = "hopskipjump"
    title = "HopSkipJump"
    summary = "decisions only, with estimated gradients (Chen et al. 2020; foolbox)"
    kinds: ClassVar = {Norm.L2: "HopSkipJumpAttack", Norm.LINF: "HopSkipJumpAttack"}
    norms = tuple(kinds)
    follows = "outputs"

    steps: PositiveInt = 64
    initial_queries: PositiveInt = Field(default=100, serialization_alias="initial_gradient_eval_steps")
    """Evaluations for the first estimate; they grow with the square root of the step,"""
    max_queries: PositiveInt = Field(default=10_000, serialization_alias="max_gradient_eval_steps")
    """up to this number."""

    def passes(self, images: int, classes: int) -> Passes:
        sizes = (min(self.initial_queries * math.sqrt(k + 1), self.max_queries) for k in range(self.steps))
        return Passes(sum(sizes)) * images

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "constraint": self.norm.value}


class SaltAndPepper(FoolboxAttack):
    """More and more pixels set to black or white at random, in all channels, until the image is misclassified.

    Listed under L0: each changed pixel goes all the way to 0 or 1, so what is small about the result is their number.
    foolbox keeps the closest in L2, which for such images orders nearly as L0.
    """

    name = "salt-and-pepper"
    title = "Salt and pepper"
    summary = "random black and white pixels, as few as suffice (foolbox)"
    kinds: ClassVar = {Norm.L0: "SaltAndPepperNoiseAttack"}
    norms = tuple(kinds)
    follows = "outputs"

    steps: PositiveInt = 1000

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.steps) * images
