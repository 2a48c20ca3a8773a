"""Adversarial examples of few changed entries out of those of many: the largest changes, each as far as it goes."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.norms import Norm, column, flat
from robusteval.models.classifier import Classifier


def filled(classifier: Classifier, centers: Tensor, labels: Tensor, witnesses: Tensor, steps: int) -> Tensor:
    """Misclassified images (M, C, H, W) with at most as many entries changed as `witnesses`, which are misclassified.

    The k entries that a witness changes most are moved to the wall of the box that they moved towards, all others are
    left as in `centers`; the smallest k that is misclassified is bisected in `steps` forwards.
    """
    v = witnesses - centers
    walls = torch.where(v > 0, 1.0, torch.where(v < 0, 0.0, centers))
    return _fewest(classifier, centers, labels, witnesses, walls, steps)


def thin(classifier: Classifier, images: Images, witnesses: Tensor, steps: int) -> Tensor:
    """Witnesses (N, C, H, W) with as many of their smallest changes put back as a bisection on the number finds; what
    was misclassified stays so. Costs `steps` forwards."""
    return _fewest(classifier, images.pixels, images.labels, witnesses, witnesses, steps)


def _fewest(
    classifier: Classifier, centers: Tensor, labels: Tensor, witnesses: Tensor, ends: Tensor, steps: int
) -> Tensor:
    """Of the images that take the k entries which `witnesses` change most from `ends`, all others from `centers`, the
    one of the smallest misclassified k that a bisection of `steps` forwards finds; the witness where none is."""
    v = witnesses - centers
    high = Norm.L0.size(v)
    best, low = witnesses, torch.zeros_like(high)
    for _ in range(steps):
        count = ((low + high) / 2).ceil()
        candidates = torch.where(among_largest(v, count), ends, centers)
        wrong = classifier.misclassifies(candidates, labels)
        best = torch.where(column(wrong & (count <= Norm.L0.size(best - centers)), best), candidates, best)
        low, high = torch.where(wrong, low, count), torch.where(wrong, count, high)
    return best


def among_largest(changes: Tensor, count: Tensor) -> Tensor:
    """Which entries of changes (N, C, H, W) are among the `count` (N,) largest of their image."""
    order = flat(changes).abs().argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return (torch.empty_like(order).scatter(1, order, ranks) < count[:, None]).view_as(changes)
