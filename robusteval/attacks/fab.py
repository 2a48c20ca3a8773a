"""FAB: the fast adaptive boundary attack.

Croce & Hein (2020), "Minimally distorted adversarial examples with a fast adaptive boundary attack", algorithm 1. The
decision boundary is linearised at the iterate; the iterate and the image are both projected on that hyperplane within
the box, exactly (hyperplane.py), and the next iterate is a mean of the two, biased to the image by at most `alpha_max`
and carried over the boundary by `eta`. A misclassified iterate is a witness, after which the search goes on a part
`beta` of the way back from the image to it. FAB-T linearises the boundary to one class only.

Deviations: the boundary is linearised where the iterate was tested and not where it was drawn back to, so that an
iteration costs one forward in place of two; which class's boundary is the closest is measured within the box, too; the
iterations are shared out among rounds from the image and from random images (search/rounds.py), and so are those of a
restart, which within a budget begins within half the distance of the closest witness; and the final search is that of
segment.py.
"""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.hyperplane import reach
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import Goal, Loss, margin
from robusteval.attacks.search.rounds import lengths
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import likeliest
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

SHORTLIST = 3
"""Of the linearised boundaries this many closest ones are measured within the box."""
NEARLY = 1e-3
"""A step that misses its hyperplane by this part of the height was stopped by the box."""
NOTABLY = 1e-6
"""A witness must be closer than the last by this part: of two that differ by a rounding the first is kept."""


class FAB(MinimumDistanceAttack):
    """The fast adaptive boundary attack; `targets` makes it FAB-T, tried against that many classes in turn.

    Costs at most `iterations` forwards and backwards (without `targets`, `classes` + 1 backwards each) and one forward
    for each round and target, and `refine` + 3 forwards.
    """

    name = "fab"
    title = "FAB"
    summary = "fast adaptive boundary attack, FAB and FAB-T (Croce & Hein 2020)"
    norms = BALLS

    iterations: PositiveInt = 100
    restarts: PositiveInt = 1
    """The first from the image itself, the others from random points: uniform in the box or, within a budget, near."""
    targets: PositiveInt | None = None
    """The number of most likely wrong classes to go for, one at a time (AutoAttack: 9); None for the closest
    boundary at each iterate."""
    classes: PositiveInt = 4
    """Without `targets`: the boundaries to so many wrong classes are linearised, those with the largest logits."""
    alpha_max: float = Field(default=0.1, ge=0, le=1)
    """The largest weight of the image's own projection in the next iterate."""
    eta: float = Field(default=1.05, ge=1)
    """How far past the hyperplane an iterate goes, relative to the step onto it."""
    beta: float = Field(default=0.9, gt=0, lt=1)
    """What is left of the perturbation when the search draws back from a witness."""
    refine: NonNegativeInt = 6
    """Evaluations of the final search between the image and its witness."""

    def passes(self, images: int, classes: int) -> Passes:
        if self.targets is not None:
            return Passes.both(self.iterations * min(self.targets, classes - 1)) * (self.restarts * images)
        return Passes(self.iterations, self.iterations * min(self.classes + 1, classes)) * (self.restarts * images)

    def gradients(self, classes: int) -> int:
        return min(self.classes + 1, classes) if self.targets is None else 0

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        return self.search(classifier, images, None, streams)

    def search(self, classifier: Classifier, images: Images, budget: Tensor | None, streams: Streams) -> Candidates:
        """The closest witnesses found, the image itself where there is none; an image leaves at once when it has one
        within its `budget` (N,)."""
        logits = classifier.predict(images.pixels)
        best = images.pixels.clone()
        size = torch.where(margin(logits, images.labels) > 0, 0.0, torch.inf).to(best)
        enough = torch.zeros_like(size) if budget is None else budget.to(size)
        goals: list[Tensor | None] = [None]
        if self.targets is not None:
            goals = list(likeliest(logits, images.labels, self.targets).unbind(1))
        rounds = (lengths(self.iterations) if budget is None else [self.iterations]) * self.restarts
        for number, iterations in enumerate(rounds):
            for goal in goals:
                rows = (size > enough).nonzero()[:, 0]
                if not len(rows):
                    break
                some = keep(rows, classifier, images, goal, best, size, enough)
                start, own = some[1].pixels, streams.select(rows)
                if number and budget is None:
                    start = own.uniform(*start.shape[1:])
                elif number:
                    start = self._random_start(start, torch.minimum(size, enough)[rows], own)
                best[rows], size[rows] = self._walk(*some, start, iterations)
        rows = (size.isfinite() & (size > enough)).nonzero()[:, 0]
        if len(rows):
            best[rows] = shrink(*keep(rows, classifier, images, best), self.refine)
        return Candidates(best)

    def _walk(
        self,
        classifier: Classifier,
        images: Images,
        targets: Tensor | None,
        best: Tensor,
        size: Tensor,
        enough: Tensor,
        start: Tensor,
        iterations: int,
    ) -> tuple[Tensor, Tensor]:
        """One walk along the boundary from `start`: the closest witnesses, `best` among them, and their sizes."""
        closest, sizes, x = best.clone(), size.clone(), start
        rows = torch.arange(len(images), device=x.device)
        for step in range(iterations + 1):
            last = step == iterations
            if last:
                fooled = margin(classifier.predict(x), images.labels) > 0
            else:
                values, normals, fooled = self._boundaries(classifier, x, images.labels, targets)
            distance = self.norm.size(x - images.pixels)
            better = fooled & (distance < size * (1 - NOTABLY))
            size = torch.where(better, distance, size)
            closest[rows[better]], sizes[rows[better]] = x[better], distance[better]
            on = size > enough
            if last or not on.any():
                break
            if not on.all():
                classifier, images, targets, size, enough, x, rows, values, normals, fooled = keep(
                    on, classifier, images, targets, size, enough, x, rows, values, normals, fooled
                )
            x = self._step(images.pixels, x, values, normals, fooled)
        return closest, sizes

    def _boundaries(
        self, classifier: Classifier, x: Tensor, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The logits of some classes (the target, or those whose boundaries are the closest without the box) less that
        of the label, (N, k); their gradients (N, k, C, H, W); and whether x is misclassified, (N,)."""
        if targets is not None:
            gradient, value, logits = classifier.gradient(x, Goal(Loss.MARGIN, labels, targets))
            values, normals = value[:, None], gradient[:, None]
        else:
            own = partial(self._candidates, labels=labels)
            logits, jacobian = classifier.jacobian(x, own)
            scores = logits.gather(1, own(logits))
            values, normals = scores[:, 1:] - scores[:, :1], jacobian[:, 1:] - jacobian[:, :1]
            slopes = self.norm.dual.size(normals.flatten(0, 1)).view_as(values)
            far = (values.abs() / slopes.clamp_min(torch.finfo(x.dtype).tiny)).nan_to_num(torch.inf)
            near = far.topk(min(SHORTLIST, values.shape[1]), largest=False).indices.sort(1).values
            each = torch.arange(len(x), device=x.device)[:, None]
            values, normals = values[each, near], normals[each, near]
        return values, normals.nan_to_num(0, 0, 0), margin(logits, labels) > 0

    def _candidates(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The label, and the likeliest wrong classes in their order as classes, (N, 1 + k)."""
        return torch.cat([labels[:, None], likeliest(logits, labels, self.classes).sort(1).values], dim=1)

    def _step(self, centers: Tensor, x: Tensor, values: Tensor, normals: Tensor, fooled: Tensor) -> Tensor:
        """The next iterate, from x or, where that is a witness, from the part `beta` of the way to it."""
        each, k = torch.arange(len(x), device=x.device), values.shape[1]
        start = torch.where(column(fooled, x), centers + self.beta * (x - centers), x)
        heights = values + (normals * (start - x)[:, None]).flatten(2).sum(2)
        steps = reach(start.repeat_interleave(k, 0), normals.flatten(0, 1), -heights.flatten(), self.norm)
        steps = steps.view_as(normals)
        # The closest boundary that the box lets it reach; of equally close ones the first, whatever rounding says.
        missed = (heights + (normals * steps).flatten(2).sum(2)).abs() > NEARLY * heights.abs()
        lengths = self.norm.size(steps.flatten(0, 1)).view_as(values)
        ranked = torch.where(missed, 1 + lengths.amax(1, keepdim=True), lengths)
        best = (ranked <= ranked.amin(1, keepdim=True) * (1 + NOTABLY)).int().argmax(1)
        normal, own = normals[each, best], steps[each, best]
        height = heights[each, best] + (normal * (centers - start)).flatten(1).sum(1)
        back = reach(centers, normal, -height, self.norm)
        here, there = lengths[each, best], self.norm.size(back)
        bias = (here / (here + there).clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(self.alpha_max)
        ends = start + self.eta * own, centers + self.eta * back
        return torch.lerp(*ends, column(bias, x)).clamp(0, 1)

    def _random_start(self, centers: Tensor, within: Tensor, streams: Streams) -> Tensor:
        """Uniform in the ball of half the size `within` (N,), cut by the box."""
        drawn = streams.in_ball(self.norm, *centers.shape[1:])
        return (centers + column(within / 2, centers) * drawn).clamp(0, 1)
