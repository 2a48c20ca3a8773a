"""Adversarial examples of few changed entries out of those of many: the largest changes alone, each as far as it goes."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.attacks.search.boundary import among_largest
from robusteval.core.norms import Norm, column
from robusteval.models.classifier import Classifier


def filled(classifier: Classifier, centers: Tensor, labels: Tensor, witnesses: Tensor, steps: int) -> Tensor:
    """Misclassified images (M, C, H, W) with fewer entries changed than `witnesses`, which must be misclassified.

    The k entries that a witness changes most are moved to the wall of the box that they moved towards, all others are
    left as in `centers`; the smallest k that is misclassified is bisected in `steps` forwards. What changes more
    entries than the witness itself does is not taken.
    """
    v = witnesses - centers
    walls = torch.where(v > 0, 1.0, torch.where(v < 0, 0.0, centers))
    high = Norm.L0.size(v)
    best, low = witnesses, torch.zeros_like(high)
    for _ in range(steps):
        count = ((low + high) / 2).ceil()
        candidates = torch.where(among_largest(v, count), walls, centers)
        wrong = classifier.misclassifies(candidates, labels)
        taken = wrong & (Norm.L0.size(candidates - centers) < Norm.L0.size(best - centers))
        best = torch.where(column(taken, best), candidates, best)
        low, high = torch.where(wrong, low, count), torch.where(wrong, count, high)
    return best
