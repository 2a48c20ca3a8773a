"""The judge: the only place that decides that an attack succeeded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.norms import BUDGET_TOLERANCE, Norm
from robusteval.models.classifier import Classifier


@dataclass(frozen=True)
class Verdict:
    """Of N candidates: success (N,) bool, the class predicted on the witness (the label where there is none),
    (N,), and the four distances (N,) float64, infinite for the failed ones."""

    success: Tensor
    predicted: Tensor
    l0: Tensor
    l1: Tensor
    l2: Tensor
    linf: Tensor

    def within(self, norm: Norm, budget: Tensor | float | None, labels: Tensor) -> Verdict:
        """The same verdict on what lies within a budget; everything else has failed."""
        distance: Tensor = getattr(self, norm.value)
        reach = torch.inf if budget is None else budget * (1 + BUDGET_TOLERANCE)
        success = self.success & (distance <= reach)
        failed = (torch.where(success, getattr(self, n.value), torch.inf) for n in Norm)
        return Verdict(success, torch.where(success, self.predicted, labels), *failed)


def judge(
    classifier: Classifier, images: Images, candidates: Tensor, norm: Norm, budget: Tensor | float | None
) -> Verdict:
    """Re-evaluate candidates (N, C, H, W).

    One is a witness if it lies in the box [0, 1], is finite, lies within `budget` in `norm` (a radius or one an image,
    (N,); relative tolerance BUDGET_TOLERANCE; None for no budget), and is misclassified with finite logits. Anything
    else is a failed attack, whatever the attack reports: its distances are infinite.
    """
    finite = candidates.isfinite().flatten(1).all(1)
    inside = ((candidates >= 0) & (candidates <= 1)).flatten(1).all(1)
    usable = finite & inside
    evaluated = torch.where(usable[:, None, None, None], candidates, images.pixels)
    logits = classifier.predict(evaluated)
    predicted = logits.argmax(1)
    difference = evaluated.double() - images.pixels.double()
    success = usable & logits.isfinite().all(1) & (predicted != images.labels)
    found = Verdict(success, predicted, *(n.size(difference) for n in (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)))
    return found.within(norm, budget, images.labels)
