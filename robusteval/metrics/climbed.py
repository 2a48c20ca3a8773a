"""What the metrics of perturbed images share: whose perturbations they measure, those of an attack or their own."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from robusteval.attacks.pgd import PGD
from robusteval.core.images import Images
from robusteval.core.methods import Radius
from robusteval.core.streams import Streams
from robusteval.metrics.base import AtWitnesses
from robusteval.models.classifier import Classifier


class AtPerturbed(AtWitnesses):
    """A metric of the closest witnesses of an attack, or of where an ascent of its own ends.

    A witness is where an attack stopped: at the first misclassified iterate, the closest of its budgets, and there is
    none of a misclassified image. What OpNorm calls adversarial perturbations are the ends of all steps at one budget,
    whatever the model says of them: that is `ascent` at `budget`.
    """

    ascent: PGD | None = None
    """Projected gradient ascent, with the settings of the attack `pgd`, of which every image gets all steps."""
    budget: Radius | None = None
    """Of the ascent, in its norm."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.ascent is not None and self.witnesses is not None:
            raise ValueError(f"expected witnesses or ascent for {self.name}, got both")
        if (self.ascent is None) != (self.budget is None):
            raise ValueError(f"expected ascent and budget together for {self.name}, got one of them")
        if self.ascent and (self.ascent.minimum_distance or self.ascent.restarts > 1 or self.ascent.search_dtype):
            raise ValueError(
                f"expected one ascent at one budget for {self.name}, got minimum_distance, restarts or search_dtype"
            )
        return self

    def perturbed(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> Tensor | None:
        """The perturbed images (N, C, H, W): the ends of the ascent, else the witnesses, NaN where there is none; None
        where the metric measures the images alone. An ascent costs as many forwards and backwards as it has steps."""
        if self.ascent is None or self.budget is None:
            return witnesses
        budget = torch.full((len(images),), self.budget, dtype=torch.float64, device=images.pixels.device)
        return self.ascent.end(classifier, images, budget, streams)
