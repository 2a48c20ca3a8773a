"""Polish: adversarial examples that other attacks found, brought closer by a local search on the boundary.

Attacks end at different minima, and not always at their floor: one that minimises the distance in another norm, or
keeps within a budget, has no reason to. So from the closest example in each norm a short walk along the boundary begins
(search/boundary.py), towards the class that the example is taken for. In L0 the walks are those of L1, which change
much in few entries: these are moved to the walls, and as few as suffice are kept; the same is done to the start itself.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.base import Attack, Candidates
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.boundary import Strides, Walkers, walk
from robusteval.attacks.search.filling import filled, thin
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import likeliest
from robusteval.attacks.search.walks import FILL
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

REFINE = 6
"""Evaluations of the final search."""
STRIDES = 0.5, 0.005, 0.5, 0.005, (Norm.L0, Norm.LINF)
"""Of a walk (search/boundary.py)."""


class Polish(Attack):
    """An image costs `steps` + 1 evaluations forward and `steps` backward for each start that it has, at most one in
    each norm."""

    name = "polish"
    title = "Polish"
    summary = "the closest adversarial examples of all other attacks, improved by walks along the boundary"
    norms = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)
    follows = "other attacks"
    on_witnesses = True

    steps: PositiveInt = 50
    """Of each walk."""

    def passes(self, images: int, classes: int) -> Passes:
        fill = 2 * FILL if self.norm is Norm.L0 else 0
        once = Passes.both(self.steps) + Passes(1 + fill)
        return (once * len(Norm) + Passes(REFINE + 2)) * images

    def run(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        raise UserError(f"expected adversarial examples for {self.name} to start from, got none")

    def improve(self, classifier: Classifier, images: Images, starts: Tensor, streams: Streams) -> Candidates:
        best = images.pixels.clone()
        distance = best.new_full((len(images),), torch.inf)
        for some in starts:
            for rows in some.flatten(1).isfinite().all(1).nonzero()[:, 0].split(classifier.batch_size):
                found, size = self._walked(*keep(rows, classifier, images, some))
                closer = size < distance[rows]
                best[rows] = torch.where(column(closer, found), found, best[rows])
                distance[rows] = torch.where(closer, size, distance[rows])
        won = distance.isfinite().nonzero()[:, 0]
        if len(won):
            ends = keep(won, classifier, images, best)
            best[won] = (thin if self.norm is Norm.L0 else shrink)(*ends, REFINE)
        return Candidates(best)

    def _walked(self, classifier: Classifier, images: Images, starts: Tensor) -> tuple[Tensor, Tensor]:
        """The closest example on a walk from each start (N, C, H, W), and its distance (N,), infinite for none."""
        logits = classifier.predict(starts)
        walkers = Walkers(images.pixels, images.labels, likeliest(logits, images.labels, 1)[:, 0], starts)
        found, distance = walk(classifier, walkers, self.norm, Strides(self.steps, *STRIDES))
        if self.norm is not Norm.L0:
            return found, distance
        best, fewest = found, torch.full_like(distance, torch.inf)
        for ends, wrong in ((starts, misclassified(logits, images.labels)), (found, distance.isfinite())):
            some = wrong.nonzero()[:, 0]
            if len(some):
                few = ends.clone()
                few[some] = filled(*keep(some, classifier, images.pixels, images.labels, ends), FILL)
                count = torch.where(wrong, Norm.L0.size(few - images.pixels), torch.inf)
                best = torch.where(column(count < fewest, best), few, best)
                fewest = fewest.minimum(count)
        return best, fewest
