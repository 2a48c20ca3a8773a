"""Closest: a parameter-free ensemble for the smallest distance in any norm, given so many queries an image.

Many short walks along the decision boundary (search/boundary.py) from starts that differ, the best of them continued,
and then kicks of noise from where the best ended, each walked back from. Which valley a walk ends in is decided by
its start: near the image most units of a network trained against Linf perturbations are dead, and what the gradient
shows there leads to poor minima; from far inside another class the way back is better. So there are walks

- from where some steps of all pixels along the signs of the gradient end, towards each of the likeliest classes (far),
- from the image itself (near), and from where few long steps end (deep), towards the likeliest.

In L0 the walks are those of L1; the entries that they change most, moved to the walls, are what counts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.fmn import thin
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.boundary import Pace, Walkers, walk
from robusteval.attacks.search.filling import filled
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.attacks.search.segment import shrink
from robusteval.attacks.search.targets import likeliest
from robusteval.core.images import Images
from robusteval.core.methods import EnsembleStage, Quantity
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

FIRST, SECOND = 0.45, 0.25
"""The shares of the gradients that the walks from all starts take, and the best of them continued; kicks get the rest."""
WALK, BEST = 16, 5
"""Steps of a first walk, at least; how many walks are continued."""
HOP = 40
"""Steps after a kick."""
KICKS = 1.0, 0.5, 2.0
"""The L2 sizes of the noise, over that of the perturbation, in turn until one helps."""
REFINE = 6
"""Evaluations of the final search."""
FILL = 8
"""Evaluations after a walk in L0."""
_FIRST_PACE, _SECOND_PACE, _LAST_PACE = (1.0, 0.05, 0.7, 0.05), (0.5, 0.02, 0.3, 0.02), (0.3, 0.005, 0.3, 0.01)


class Start(Enum):
    """Where walks begin: the number in the measurement `stage`, the title, the steps of all pixels and their length,
    and to how many of the likeliest classes."""

    FAR = 1, "far start", 5, 0.1, 9
    NEAR = 2, "near start", 0, 0.0, 9
    DEEP = 3, "deep start", 3, 0.3, 3
    KICK = 4, "kick", 0, 0.0, 0

    @property
    def stage(self) -> EnsembleStage:
        return EnsembleStage(value=self.value[0], title=self.value[1], follows="gradients")

    @property
    def outward(self) -> tuple[int, float]:
        return self.value[2], self.value[3]

    def priority(self, rank: int) -> float:
        """The smaller the sooner a walk from here towards the class of this rank is made."""
        return {Start.FAR: rank, Start.NEAR: rank + 0.5}.get(self, 3 * rank + 1.2)


@dataclass(frozen=True)
class Plan:
    """What the gradients of an image are spent on."""

    starts: tuple[tuple[Start, int], ...]
    first: int
    best: int
    second: int
    hops: int
    hop: int

    @classmethod
    def of(cls, gradients: int, targets: int) -> Plan:
        every = [(s, r) for s in Start for r in range(min(s.value[4], targets))]
        every.sort(key=lambda pair: pair[0].priority(pair[1]))
        starts = tuple(every[: max(1, int(FIRST * gradients / WALK))])
        outward = sum(s.outward[0] for s, _ in starts)
        first = max(1, (int(FIRST * gradients) - outward) // len(starts))
        best = min(BEST, len(starts))
        second = int(SECOND * gradients) // best
        left = gradients - outward - first * len(starts) - second * best
        hops = round(left / HOP) if left >= HOP else 1
        return cls(starts, first, best, second, hops, max(0, left // hops))


class Closest(MinimumDistanceAttack):
    """The measurement `stage` tells what the closest example began with, NaN where there is none.

    Costs at most `queries` evaluations an image, forward and backward."""

    name = "closest"
    title = "Closest"
    summary = "the smallest distance by walks along the boundary from many starts, for so many queries"
    norms = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)
    ensemble = tuple(start.stage for start in Start)
    quantities = (Quantity(name="stage", title="found from", words={stage.value: stage.title for stage in ensemble}),)

    queries: PositiveInt = 2000
    """Evaluations of an image, forward and backward together."""
    targets: PositiveInt = 9
    """The likeliest wrong classes that walks are directed to."""

    def passes(self, images: int, classes: int) -> Passes:
        gradients = self._gradients()
        return (Passes.both(gradients) + Passes(self.queries - 2 * gradients)) * images

    def gradients(self, classes: int) -> int:
        return len(self._plan(classes).starts)

    def _gradients(self) -> int:
        return max(1, (self.queries - 3 - REFINE) // 2)

    def _plan(self, classes: int) -> Plan:
        gradients = self._gradients()
        targets = min(self.targets, classes - 1)
        plan = Plan.of(gradients, targets)
        if self.norm is Norm.L0:
            fills = len(plan.starts) + plan.best + plan.hops
            plan = Plan.of(max(1, gradients - fills * FILL // 2), targets)
        return plan

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        plan = self._plan(classifier.num_classes)
        likely = likeliest(classifier.predict(images.pixels), images.labels, self.targets)
        search = _Search(classifier, images, self.norm)
        walks = search.walks(plan.starts, likely)
        walks = search.walked(walks, Pace(plan.first, *_FIRST_PACE))
        if plan.second:
            walks = search.walked(search.nearest(walks, plan.best), Pace(plan.second, *_SECOND_PACE))
        best = search.nearest(walks, 1)
        kick = torch.zeros_like(images.labels)
        for hop in range(plan.hops if plan.hop else 0):
            pace = Pace(plan.hop, *_LAST_PACE)
            noise = streams.normal(*images.shape)
            size = torch.tensor(KICKS).to(noise)[kick % len(KICKS)] * Norm.L2.size(best.x - images.pixels)
            last = hop == plan.hops - 1
            x = best.x if last else (best.x + Norm.L2.scale_to(noise, size)).clamp(0, 1)
            tried = search.walked(replace(best, x=x), pace)
            won = tried.distance < best.distance
            kick = torch.where(won, kick, kick + 1)
            best = best.replaced(won, tried)
        ends = search.refined(best)
        stage = torch.where(best.distance.isfinite(), best.stage, torch.nan)
        return Candidates(ends, {"stage": stage})


@dataclass(frozen=True)
class _Walks:
    """M walks of some images `rows` (M,), in their order, as many of each: where each is (M, C, H, W), the class
    that it goes towards, what it began with, its closest example and its distance (M,), infinite for none."""

    rows: Tensor
    targets: Tensor
    stage: Tensor
    x: Tensor
    example: Tensor
    distance: Tensor

    def select(self, rows: Tensor) -> _Walks:
        return _Walks(*keep(rows, *(getattr(self, f.name) for f in fields(self))))

    def replaced(self, which: Tensor, other: _Walks) -> _Walks:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _Walks(*(torch.where(column(which, mine), theirs, mine) for mine, theirs in pairs))


@dataclass(frozen=True)
class _Search:
    classifier: Classifier
    images: Images
    norm: Norm

    @property
    def way(self) -> Norm:
        """The norm that walks shorten."""
        return Norm.L1 if self.norm is Norm.L0 else self.norm

    def walks(self, starts: tuple[tuple[Start, int], ...], likely: Tensor) -> _Walks:
        """Those that begin at the starts, each with the rank of its class."""
        n, width, pixels = len(self.images), len(starts), self.images.pixels
        rows = torch.arange(n, device=pixels.device).repeat_interleave(width)
        targets = likely[:, [rank for _, rank in starts]].flatten()
        stage = torch.tensor([float(start.value[0]) for start, _ in starts]).to(pixels).repeat(n)
        x = pixels[rows]
        for start in Start:
            own = (stage == start.value[0]).nonzero()[:, 0]
            steps, length = start.outward
            for part in own.split(self.classifier.batch_size) if steps else ():
                view, goal = self._towards(rows[part], targets[part])
                for _ in range(steps):
                    x[part] = (x[part] + length * view.gradient(x[part], goal)[0].sign()).clamp(0, 1)
        return _Walks(rows, targets, stage, x, x, torch.full_like(stage, torch.inf))

    def walked(self, walks: _Walks, pace: Pace) -> _Walks:
        """The walks gone on with, each where it is closest; the closer of its examples before and after."""
        parts = [self._part(walks.select(p), pace) for p in torch.arange(len(walks.rows)).split(self.classifier.batch_size)]
        return _Walks(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(_Walks)))

    def nearest(self, walks: _Walks, count: int) -> _Walks:
        """The `count` closest walks of each image."""
        n = len(self.images)
        width = len(walks.rows) // max(1, n)
        order = walks.distance.view(n, width).argsort(dim=1, stable=True)[:, :count]
        return walks.select((order + width * torch.arange(n, device=order.device)[:, None]).flatten())

    def refined(self, best: _Walks) -> Tensor:
        """The examples (N, C, H, W) of one walk an image after a final search, the image itself where there is none."""
        pixels = self.images.pixels
        found = torch.where(column(best.distance.isfinite(), pixels), best.example, pixels)
        return (thin if self.norm is Norm.L0 else shrink)(self.classifier, self.images, found, REFINE)

    def _towards(self, rows: Tensor, targets: Tensor) -> tuple[Classifier, Goal]:
        view, labels = keep(rows, self.classifier, self.images.labels)
        return view, Goal(Loss.MARGIN, labels, targets)

    def _part(self, walks: _Walks, pace: Pace) -> _Walks:
        view, centers, labels = keep(walks.rows, self.classifier, self.images.pixels, self.images.labels)
        x, distance = walk(view, Walkers(centers, labels, walks.targets, walks.x), self.way, pace)
        example, found = x, distance.isfinite()
        if self.norm is Norm.L0:
            some = found.nonzero()[:, 0]
            if len(some):
                example = x.clone()
                example[some] = filled(*keep(some, view, centers, labels, x), FILL)
            # Of equally many entries the smaller ones.
            size = Norm.L0.size(example - centers) + distance / (1 + distance)
            distance = torch.where(found, size, torch.inf)
        closer = distance < walks.distance
        kept = torch.where(column(closer, x), example, walks.example)
        return replace(walks, x=x, example=kept, distance=torch.where(closer, distance, walks.distance))
