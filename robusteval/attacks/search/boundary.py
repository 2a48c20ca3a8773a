"""Walks along the decision boundary: from a start, however far, to an adversarial example as close as it can.

A step goes uphill on the margin; then the perturbation is brought to the size at which the linearised boundary lies,
which is so much smaller or larger as that boundary is away in the walk's norm, at most by a share that falls on a
cosine, as the step does. (Rony et al. 2019 change the size by a fixed share, Pintor et al. 2021 by the linearised
distance until there is an example.) All lengths are relative to the distance of the iterate: nothing is tuned to the
size of images or to the scale of logits.

In Linf a step moves all pixels equally, along signs; in L2 along the gradient; in L1 along its squares with their
signs, which moves fewer pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.apgd_l1 import project as project_l1
from robusteval.attacks.search.losses import margin
from robusteval.core.norms import Norm, column
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

MOMENTUM = 0.5
"""The weight of the gradients before, in the direction of a step."""
AHEAD = 1.05
"""Before there is an example, the walk goes so much farther than the linearised boundary."""
BEYOND = 1e-4
"""Afterwards it aims so far beyond that boundary, over the distance: on it, rounding would decide the class."""
CLOSER = 0.999
"""The next iterates are to be closer than the closest example by this factor."""
NEAREST = 1e-3
"""Steps are relative to the distance, but to no smaller one than this."""


@dataclass(frozen=True)
class Walkers:
    """M walks: from `x` (M, C, H, W) around the images `centers`, away from `labels` (M,), towards `targets` (M,);
    where that is the label itself, towards whichever other class is the likeliest at each step."""

    centers: Tensor
    labels: Tensor
    targets: Tensor
    x: Tensor

    def select(self, rows: Tensor) -> Walkers:
        return Walkers(*keep(rows, self.centers, self.labels, self.targets, self.x))

    def height(self, logits: Tensor) -> Tensor:
        """What a walk goes up, (M,): the margin."""
        towards = margin(logits, self.labels, self.targets)
        return torch.where(self.targets == self.labels, margin(logits, self.labels), towards)


@dataclass(frozen=True)
class Strides:
    """So many steps; their length, over the distance, falls from `first` to `last`, and the share by which the distance
    may change in one from `first_change` to `last_change`."""

    steps: int
    first: float
    last: float
    first_change: float
    last_change: float

    def at(self, step: int) -> tuple[float, float]:
        """The length and the share of a step."""
        fall = (1 + math.cos(math.pi * step / self.steps)) / 2
        change = self.last_change + (self.first_change - self.last_change) * fall
        return self.last + (self.first - self.last) * fall, change


def walk(classifier: Classifier, walkers: Walkers, norm: Norm, strides: Strides) -> tuple[Tensor, Tensor]:
    """The closest misclassified iterates (M, C, H, W), the last ones where there was none, and their distances (M,),
    infinite for those. An example counts whatever its class.

    norm: L1, L2 or Linf. Costs `strides.steps` forwards and backwards a walk.
    """
    centers, labels, x = walkers.centers, walkers.labels, walkers.x
    measure = Norm.LINF if norm is Norm.LINF else Norm.L2
    best, distance = x, x.new_full((len(x),), torch.inf)
    corner = torch.maximum(centers, 1 - centers)
    farthest, widest = norm.size(corner), measure.size(corner)
    uphill = torch.zeros_like(x)
    for step in range(strides.steps):
        gradient, value, logits = classifier.gradient(x, walkers.height)
        wrong, here = misclassified(logits, labels), norm.size(x - centers)
        closer = wrong & (here < distance)
        best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
        value = torch.where(wrong, margin(logits, labels), value).nan_to_num(0, 0, 0)
        gradient = torch.where(torch.where(gradient > 0, x < 1, x > 0), gradient, 0)
        length, change = strides.at(step)
        found = distance.isfinite()
        away = _away(gradient, value, norm)
        most = change * here.clamp_min(NEAREST)
        smaller = (here + (away + BEYOND * here).clamp(-most, most)).minimum(CLOSER * distance)
        size = torch.where(found, smaller, here + AHEAD * away.clamp_min(0) + NEAREST * most).minimum(farthest)
        reach = torch.where(found, 0, AHEAD * _away(gradient, value, measure))
        scale = torch.maximum(measure.size(x - centers), reach).minimum(widest).clamp_min(NEAREST)
        uphill = MOMENTUM * uphill + (1 - MOMENTUM) * Norm.L2.steepest(gradient)
        x = _brought(norm, centers, x + column(length * scale, x) * _unit(norm, uphill), size)
    return torch.where(column(distance.isfinite(), x), best, x), distance


def _away(gradient: Tensor, value: Tensor, norm: Norm) -> Tensor:
    """How far the linearised boundary lies ahead, (N,); negative behind it."""
    return -value / norm.dual.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def _unit(norm: Norm, uphill: Tensor) -> Tensor:
    """A step of length 1: in Linf in that norm, else in L2."""
    if norm is Norm.LINF:
        return uphill.sign()
    return Norm.L2.steepest(uphill * uphill.abs() if norm is Norm.L1 else uphill)


def _brought(norm: Norm, centers: Tensor, x: Tensor, size: Tensor) -> Tensor:
    """x with a perturbation of a size (N,) at most, within the box; in L2 of exactly that size before it is cut."""
    v = x - centers
    if norm is Norm.L1:
        v = project_l1(v, size, -centers, 1 - centers)
    elif norm is Norm.L2:
        v = norm.scale_to(v, size)
    else:
        v = norm.project(v, size)
    return (centers + v).clamp(0, 1)
