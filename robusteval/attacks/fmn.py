"""FMN: the fast minimum-norm attack, in L0, L1, L2 and Linf.

Pintor et al. (2021), "Fast minimum-norm adversarial attacks through adaptive norm constraints", algorithm 1: a step of
falling length along the unit L2 gradient of the margin, then a projection on a ball whose radius follows the boundary.
Until the first success the radius is the distance of the linearised boundary; then it shrinks by `gamma` where the
image is misclassified and grows by it where not; gamma and the step fall on cosines, to 0.001 and a hundredth. In L0
the radius is a number of entries and changes by at least one. Deviations: the steps are shared out among rounds from
the image and from random images (search/rounds.py), the latter from the radius of these; first gammas are larger than
the paper's 0.05, and first steps are measured by the perturbation in L1 (the paper's 1 is too long near, too short far
away) and longer elsewhere; in L0 the projection keeps the entries whose change times gradient is largest, not the
largest changes: what the linearised margin needs; the distance to the boundary is taken for more with every step, or
else the boundary may be approached for ever; entries that the box holds back take no part in the gradient; in L1 the
projection is on ball and box at once; the closest image is searched down to the boundary at the end, in L0 by putting
back its smallest changes.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.apgd_l1 import project as project_l1
from robusteval.attacks.search.box import free
from robusteval.attacks.search.filling import thin
from robusteval.attacks.search.losses import margin
from robusteval.attacks.search.rounds import in_rounds
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
FIRST_GAMMAS = {Norm.L0: 0.3, Norm.L1: 0.3, Norm.L2: 0.1, Norm.LINF: 0.1}
FIRST_STEPS = {Norm.L0: 8.0, Norm.L1: 8.0, Norm.L2: 4.0, Norm.LINF: 4.0}
NEAR, FAR = 2.0, 0.5
"""The first step in L1, over the L2 size of the perturbation: in the round from the image, in the others."""


class FMN(MinimumDistanceAttack):
    """Draws the images that its later rounds begin at.

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
    """The first step's length in L2; unless given 8 in L0, 4 in L2 and Linf, and in L1 two L2 sizes of the
    perturbation in the round from the image, half of one in the others."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search."""

    def passes(self, images: int, classes: int) -> Passes:
        return (Passes.both(self.steps) + Passes(self.refine + 2)) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        def search(start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
            return self.descent(classifier, images, start, steps)

        found = in_rounds(search, images, self.steps, streams)
        refined = thin if self.norm is Norm.L0 else shrink
        return Candidates(refined(classifier, images, found, self.refine))

    def descent(self, classifier: Classifier, images: Images, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The closest misclassified iterates (N, C, H, W) of so many steps from x, and their sizes (N,), infinite where
        there was none."""
        centers, norm = images.pixels, self.norm
        first_gamma = self.gamma or FIRST_GAMMAS[norm]
        best, radius = x, norm.size(x - centers)
        near = radius == 0
        farthest, radius = norm.size(torch.maximum(centers, 1 - centers)), torch.where(near, 1.0, radius)
        distance = torch.full_like(farthest, torch.inf)
        for i in range(steps):
            gradient, value, logits = classifier.gradient(x, lambda logits: margin(logits, images.labels))
            uphill = free(gradient, x)
            wrong, here = misclassified(logits, images.labels), norm.size(x - centers)
            closer = wrong & (here < distance)
            best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
            fall = (1 + math.cos(math.pi * i / steps)) / 2
            smaller, larger = self._resized(radius, LAST_GAMMA + (first_gamma - LAST_GAMMA) * fall)
            if norm is not Norm.L0:
                slope = norm.dual.size(uphill).clamp_min(torch.finfo(x.dtype).tiny)
                ahead = here + BEYOND ** (i + 1) * value.abs() / slope
                larger = torch.where(near & distance.isinf(), ahead, larger)
            radius = torch.where(wrong, torch.minimum(smaller, distance), larger).clamp_min(0).minimum(farthest)
            length = self._length(x - centers, near) * (LAST_STEP + (1 - LAST_STEP) * fall)
            moved = x + column(length, x) * Norm.L2.steepest(uphill)
            x = self._project(centers, moved, radius, gradient)
        return best, distance

    def _length(self, changes: Tensor, near: Tensor) -> Tensor:
        """The first step's length in L2, (N,)."""
        size = Norm.L2.size(changes)
        if self.step is not None or self.norm is not Norm.L1:
            return torch.full_like(size, self.step or FIRST_STEPS[self.norm])
        return torch.where(size > 0, torch.where(near, NEAR, FAR) * size, FIRST_STEPS[self.norm])

    def _resized(self, radius: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """The radii (N,) shrunk and grown by the share `gamma`."""
        smaller, larger = radius * (1 - gamma), radius * (1 + gamma)
        if self.norm is not Norm.L0:
            return smaller, larger
        return torch.minimum(radius - 1, smaller.floor()), torch.maximum(radius + 1, larger.floor())

    def _project(self, centers: Tensor, candidates: Tensor, radius: Tensor, gradient: Tensor) -> Tensor:
        if self.norm is Norm.L0:
            candidates = candidates.clamp(0, 1)
            gain = flat((candidates - centers) * gradient).clamp_min(0)
            count = radius.long()
            largest = gain.topk(max(1, int(count.max())), dim=1).values
            least = largest.gather(1, (count[:, None] - 1).clamp_min(0))
            kept = (gain >= least) & (gain > 0) & (count[:, None] > 0)
            return torch.where(kept.view_as(centers), candidates, centers)
        if self.norm is Norm.L1:
            return (centers + project_l1(candidates - centers, radius, -centers, 1 - centers)).clamp(0, 1)
        return (centers + self.norm.project(candidates - centers, radius)).clamp(0, 1)
