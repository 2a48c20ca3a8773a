"""Walks along the decision boundary: from a start, however far, to an adversarial example as close as it can.

A step goes along the gradient of the margin, and then the perturbation is brought to the size at which the linearised
boundary lies: it shrinks or grows by the distance to that boundary in the walk's norm, at most by a share that falls on
a cosine, as the step does (after Rony et al. 2019, whose sizes change by a fixed share, and Pintor et al. 2021). All
lengths are relative to the distance of the iterate, so that nothing is tuned to the size of images. In Linf a step moves
all pixels equally, along signs; in the other norms they move by their gradients. In L0 the largest changes are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.apgd_l1 import project as project_l1
from robusteval.attacks.search.losses import Goal, Loss, margin
from robusteval.core.norms import Norm, column, flat
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

MOMENTUM = 0.5
"""The weight of the directions before, in the direction of a step."""
AHEAD = 1.05
"""Before there is an adversarial example, the walk goes this much farther than the linearised boundary."""
CLOSER = 0.999
"""The next iterates are to be closer than the closest adversarial example by this factor."""
POWER = 2
NEAREST = 1e-3
"""Steps are relative to the distance, but to no smaller one than this, in each norm."""


@dataclass(frozen=True)
class Walkers:
    """M walks: each from `x` (M, C, H, W) around its image `centers`, towards `targets` (M,), away from `labels` (M,)."""

    centers: Tensor
    labels: Tensor
    targets: Tensor
    x: Tensor

    def select(self, rows: Tensor) -> Walkers:
        return Walkers(*keep(rows, self.centers, self.labels, self.targets, self.x))


@dataclass(frozen=True)
class Pace:
    """So many steps, whose length, over the distance, falls from `first` to `last`, and the share by which the distance
    may change from `first_change` to `last_change`."""

    steps: int
    first: float
    last: float
    first_change: float
    last_change: float

    def at(self, step: int) -> tuple[float, float]:
        fall = (1 + math.cos(math.pi * step / self.steps)) / 2
        return (
            self.last + (self.first - self.last) * fall,
            self.last_change + (self.first_change - self.last_change) * fall,
        )


def walk(classifier: Classifier, walkers: Walkers, norm: Norm, pace: Pace) -> tuple[Tensor, Tensor]:
    """The closest misclassified iterates (M, C, H, W), the last ones where there was none, and their distances (M,),
    infinite for those.

    Costs `pace.steps` forwards and backwards a walker; whatever class is found, an example counts.
    """
    centers, labels, x = walkers.centers, walkers.labels, walkers.x
    goal = Goal(Loss.MARGIN, labels, walkers.targets)
    best, distance = x, x.new_full((len(x),), torch.inf)
    farthest = norm.size(torch.maximum(centers, 1 - centers))
    widest = _measure(norm).size(torch.maximum(centers, 1 - centers))
    uphill = torch.zeros_like(x)
    for step in range(pace.steps):
        gradient, value, logits = classifier.gradient(x, goal)
        wrong, here = misclassified(logits, labels), norm.size(x - centers)
        closer = wrong & (here < distance)
        best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
        value = torch.where(wrong, margin(logits, labels), value).nan_to_num(0, 0, 0)
        gradient = torch.where(torch.where(gradient > 0, x < 1, x > 0), gradient, 0)
        length, change = pace.at(step)
        size = _size(norm, gradient, value, here, wrong, distance, change).minimum(farthest)
        uphill = MOMENTUM * uphill + (1 - MOMENTUM) * Norm.L2.steepest(gradient)
        ahead = torch.where(distance.isfinite(), 0, _missing(gradient, value, _measure(norm)))
        scale = torch.maximum(_measure(norm).size(x - centers), ahead).minimum(widest).clamp_min(NEAREST)
        x = _brought(norm, centers, x + column(length * scale, x) * _direction(norm, uphill), size)
    return torch.where(column(distance.isfinite(), x), best, x), distance


def _size(
    norm: Norm, gradient: Tensor, value: Tensor, here: Tensor, wrong: Tensor, distance: Tensor, change: float
) -> Tensor:
    """The next perturbations' sizes (N,)."""
    found = distance.isfinite()
    if norm is Norm.L0:
        moved = torch.where(wrong, here.minimum(distance) * (1 - change), here * (1 + change) + 1).floor()
        return torch.where(found, moved.minimum(distance - 1), moved).clamp_min(1)
    missing = _missing(gradient, value, norm)
    most = change * here.clamp_min(NEAREST)
    size = torch.where(found, missing.clamp(-most, most), AHEAD * missing.clamp_min(0) + NEAREST * most)
    return torch.where(found, (here + size).minimum(CLOSER * distance), here + size)


def _missing(gradient: Tensor, value: Tensor, norm: Norm) -> Tensor:
    """How far the linearised boundary lies, (N,), negative behind it."""
    return -value / norm.dual.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def _measure(norm: Norm) -> Norm:
    """The norm that steps are measured in."""
    return norm if norm is Norm.LINF else Norm.L2


def _direction(norm: Norm, uphill: Tensor) -> Tensor:
    """The step of length 1 in that norm."""
    if norm is Norm.LINF:
        return uphill.sign()
    if norm is Norm.L1:
        return Norm.L2.steepest(uphill * uphill.abs().pow(POWER-1))
    return Norm.L2.steepest(uphill)


def _brought(norm: Norm, centers: Tensor, x: Tensor, size: Tensor) -> Tensor:
    """x with a perturbation of a size (N,) at most, within the box; in L2 of exactly that size before it."""
    v = x - centers
    if norm is Norm.L0:
        return torch.where(among_largest(v, size), x, centers).clamp(0, 1)
    if norm is Norm.L1:
        v = project_l1(v, size, -centers, 1 - centers)
    elif norm is Norm.L2:
        v = norm.scale_to(v, size)
    else:
        v = norm.project(v, size)
    return (centers + v).clamp(0, 1)


def among_largest(changes: Tensor, count: Tensor) -> Tensor:
    """Which entries of changes (N, C, H, W) are among the `count` (N,) largest of their image."""
    order = flat(changes).abs().argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return (torch.empty_like(order).scatter(1, order, ranks) < count[:, None]).view_as(changes)
