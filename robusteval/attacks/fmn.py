"""FMN: the fast minimum-norm attack, in L0, L1, L2 and Linf.

Pintor et al. (2021), "Fast minimum-norm adversarial attacks through adaptive norm constraints", algorithm 1: a step of
falling length along the unit L2 gradient of the margin, then a projection on a ball whose radius follows the boundary.
Until the first success the radius is the distance of the linearised boundary; then it shrinks by `gamma` where the
image is misclassified and grows by it where not; gamma and the step fall on cosines, to 0.001 and a hundredth. In L0
the radius is a number of entries and changes by at least one. Deviations: first steps and gammas are larger than the
paper's 1 and 0.05, which ended further away on MNIST in every norm; the distance to the boundary is taken for more with
every step, or else the boundary may be approached for ever; entries that the box holds back take no part in the
gradient; in L1 the projection is on ball and box at once; the closest image is searched down to the boundary at the
end, in L0 by putting back its smallest changes.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.apgd_l1 import project as project_l1
from robusteval.attacks.search.losses import margin
from robusteval.attacks.search.segment import shrink
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column, flat
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

BEYOND = 1.05
"""How far the first radii reach, over the distance of the linearised boundary: to the power of the number of steps."""
LAST_STEP, LAST_GAMMA = 0.01, 0.001


class FMN(MinimumDistanceAttack):
    """Draws nothing at random.

    Costs `steps` forwards and backwards an image, and `refine` + 2 forwards for the search at the end.
    """

    name = "fmn"
    title = "FMN"
    summary = "fast minimum norm (Pintor et al. 2021)"
    norms = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)

    steps: PositiveInt = 100
    gamma: float | None = Field(default=None, gt=0, lt=1)
    """By how much a radius grows or shrinks at first, relative; unless given 0.3 in L0 and L1, else 0.1."""
    step: PositiveFloat | None = None
    """The first step's length in L2; unless given 8 in L0 and L1, else 4."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        centers, norm = images.pixels, self.norm
        first_step, first_gamma = (8.0, 0.3) if norm in (Norm.L0, Norm.L1) else (4.0, 0.1)
        first_step, first_gamma = self.step or first_step, self.gamma or first_gamma
        x = best = centers
        farthest = norm.size(torch.maximum(centers, 1 - centers))
        radius, distance = torch.ones_like(farthest), torch.full_like(farthest, torch.inf)
        for i in range(self.steps):
            gradient, value, logits = classifier.gradient(x, lambda logits: margin(logits, images.labels))
            gradient = gradient.nan_to_num(0, 0, 0)
            gradient = torch.where(torch.where(gradient > 0, x < 1, x > 0), gradient, 0)
            wrong, here = misclassified(logits, images.labels), norm.size(x - centers)
            closer = wrong & (here < distance)
            best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
            fall = (1 + math.cos(math.pi * i / self.steps)) / 2
            gamma = LAST_GAMMA + (first_gamma - LAST_GAMMA) * fall
            smaller, larger = self._resized(radius, gamma)
            if norm is not Norm.L0:
                slope = norm.dual.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
                ahead = here + BEYOND ** (i + 1) * value.abs() / slope
                larger = torch.where(distance.isfinite(), larger, ahead)
            radius = torch.where(wrong, torch.minimum(smaller, distance), larger).clamp_min(0).minimum(farthest)
            length = first_step * (LAST_STEP + (1 - LAST_STEP) * fall)
            x = self._project(centers, x + length * Norm.L2.steepest(gradient), radius)
        search = thin if norm is Norm.L0 else shrink
        return Candidates(search(classifier, images, best, self.refine))

    def _resized(self, radius: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """The radii (N,) shrunk and grown by the share `gamma`."""
        smaller, larger = radius * (1 - gamma), radius * (1 + gamma)
        if self.norm is not Norm.L0:
            return smaller, larger
        return torch.minimum(radius - 1, smaller.floor()), torch.maximum(radius + 1, larger.floor())

    def _project(self, centers: Tensor, candidates: Tensor, radius: Tensor) -> Tensor:
        if self.norm is Norm.L0:
            return torch.where(among_largest(candidates - centers, radius), candidates, centers).clamp(0, 1)
        if self.norm is Norm.L1:
            return (centers + project_l1(candidates - centers, radius, -centers, 1 - centers)).clamp(0, 1)
        return (centers + self.norm.project(candidates - centers, radius)).clamp(0, 1)


def among_largest(changes: Tensor, count: Tensor) -> Tensor:
    """Which entries of changes (N, C, H, W) are among the `count` (N,) largest of their image."""
    order = flat(changes).abs().argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return (torch.empty_like(order).scatter(1, order, ranks) < count[:, None]).view_as(changes)


def thin(classifier: Classifier, images: Images, witnesses: Tensor, steps: int) -> Tensor:
    """Witnesses (N, C, H, W) with as many of their smallest changes put back as a bisection on the number finds; what
    was misclassified stays so. Costs `steps` forwards."""
    changes, best = witnesses - images.pixels, witnesses
    low, high = torch.zeros_like(images.labels), Norm.L0.size(changes).long()
    for _ in range(steps):
        middle = (low + high) // 2
        candidates = torch.where(among_largest(changes, middle), witnesses, images.pixels)
        wrong = classifier.misclassifies(candidates, images.labels)
        best = torch.where(column(wrong, best), candidates, best)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return best
