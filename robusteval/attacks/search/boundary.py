"""Walks along the decision boundary: from a start, however far, to an adversarial example as close as it can.

Each move (search/moves.py) is made for the margin as it is linearised where the walk is; its length falls on a cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import margin
from robusteval.attacks.search.moves import Here, Move, Rescaled, Solved
from robusteval.core.norms import Norm, column
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier


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
    may change in one from `first_change` to `last_change`; the norms in which they are rescaled, not solved."""

    steps: int
    first: float
    last: float
    first_change: float
    last_change: float
    rescaled: tuple[Norm, ...]

    def at(self, step: int) -> tuple[float, float]:
        """The length and the share of a step."""
        fall = (1 + math.cos(math.pi * step / self.steps)) / 2
        change = self.last_change + (self.first_change - self.last_change) * fall
        return self.last + (self.first - self.last) * fall, change

    def move(self, centers: Tensor, norm: Norm) -> Move:
        return (Rescaled if norm in self.rescaled else Solved)(centers, walked_in(norm))


def walk(classifier: Classifier, walkers: Walkers, norm: Norm, strides: Strides) -> tuple[Tensor, Tensor]:
    """The closest misclassified iterates (M, C, H, W), the last ones where there was none, and their distances (M,),
    infinite for those. An example counts whatever its class.

    In L0 moves and distances are those of L1. Costs `strides.steps` forwards and backwards a walk.
    """
    centers, labels, x = walkers.centers, walkers.labels, walkers.x
    best, distance = x, x.new_full((len(x),), torch.inf)
    move, norm = strides.move(centers, norm), walked_in(norm)
    for step in range(strides.steps):
        gradient, value, logits = classifier.gradient(x, walkers.height)
        wrong, size = misclassified(logits, labels), norm.size(x - centers)
        closer = wrong & (size < distance)
        best, distance = torch.where(column(closer, x), x, best), torch.where(closer, size, distance)
        value = torch.where(wrong, margin(logits, labels), value).nan_to_num(0, 0, 0)
        x = move(Here(x, gradient, value, size, distance), *strides.at(step))
    return torch.where(column(distance.isfinite(), x), best, x), distance


def walked_in(norm: Norm) -> Norm:
    """The norm of the moves: in L0 that of L1."""
    return Norm.L1 if norm is Norm.L0 else norm
