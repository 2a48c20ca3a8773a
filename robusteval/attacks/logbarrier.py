"""LogBarrier: descend towards the image inside the misclassified region, held there by a logarithmic barrier.

Finlay, Pooladian & Oberman (2019), used by GradReg: from a misclassified start, minimise

    distance(x, image) - lambda * log(p_wrong(x) - p_label(x)),   x in [0, 1],

by gradient steps of 0.01, for lambda = 0.1 * 0.75^k, k = 0 .. 14, at most 500 steps each; a step out of the
misclassified region is halved towards the last iterate inside it. The distance is |v|^2 / 2 in L2 and, in Linf, a
maximum smoothed by softmax weights of temperature 500; p are the softmax probabilities.

Deviations. A step that raises the objective is halved like one that leaves the region, and counts; the step's length
grows while steps succeed and shrinks when they do not. In Linf, where the plain gradient moves all pixels together by
0.01, which takes forever in large images, a step moves no pixel by more than 0.01 of the distance, and the
temperature is lower far from the image. lambda is relative to the start's distance term where that is below one: an
image next to the boundary would be pushed far from it. Each image goes through the loops at its own pace: a loop ends
when its objective has stopped falling, and the image leaves with its last. The start is the closest of some
(attacks/starts.py), because the descent rarely leaves the class that it starts in; what it finds is projected on
smaller and smaller balls. The barrier is computed from logits: it stays exact where probabilities saturate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.base import Candidates, MinimumDistanceAttack
from robusteval.attacks.search.active import keep
from robusteval.attacks.starts import closer, starts
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

GROW, SHRINK, FASTEST = 1.25, 0.5, 20.0
"""Factors of the step's length after a success and a failure, and its upper bound, relative to the setting."""
SOFTEST = 50.0
"""The temperature times the distance is at most this: far from the image more pixels take part in the maximum."""
PATIENCE = 25
"""Steps without progress after which an outer loop has converged."""
PROGRESS = 1e-3
"""What counts as progress of the objective, relative to the distance term."""
HALVINGS = 12
"""Projections of the end."""


class LogBarrier(MinimumDistanceAttack):
    """Interior-point descent on the distance. Costs at most `outer` * `steps` gradients an image, and some forwards
    for its start and its end."""

    name = "logbarrier"
    title = "LogBarrier"
    summary = "descent on the distance inside the misclassified region, with a log barrier (Finlay et al. 2019)"
    norms = (Norm.L2, Norm.LINF)

    outer: PositiveInt = 15
    steps: PositiveInt = 500
    """Of one outer loop, at most."""
    step: PositiveFloat = 0.01
    barrier: PositiveFloat = 0.1
    """The weight lambda of the barrier in the first outer loop."""
    decay: float = Field(0.75, gt=0, lt=1)
    """Of the weight, from one outer loop to the next."""
    temperature: PositiveFloat = 500.0
    """Of the smooth maximum that stands for the Linf distance."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes.both(self.outer * self.steps) * images

    def closest(self, classifier: Classifier, images: Images, streams: Streams) -> Candidates:
        found, start = starts(classifier, images, self.norm, streams)
        best = images.pixels.clone()
        # An image that is misclassified itself is its own closest witness.
        rows = (found & (self.norm.size(start - best) > 0)).nonzero()[:, 0]
        if len(rows):
            view, chosen, x = keep(rows, classifier, images, start)
            best[rows] = closer(view, chosen, self.descend(view, chosen, x), self.norm, HALVINGS)
        return Candidates(best)

    def descend(self, classifier: Classifier, images: Images, x: Tensor) -> Tensor:
        """The closest misclassified iterate (N, C, H, W) on the way from each misclassified x."""
        result = x.clone()
        rows = torch.arange(len(x), device=x.device)
        path = _Path.at(x)
        unit = self._distance(x - images.pixels)[0].clamp_max(1)
        while len(rows):
            weight = self.barrier * unit * self.decay ** path.loop.to(x)
            gradient, barrier, logits = classifier.gradient(path.trial, _Barrier(images.labels))
            distance, slope = self._distance(path.trial - images.pixels)
            size = self.norm.size(path.trial - images.pixels)
            taken = path.judge(misclassified(logits, images.labels), size, distance, barrier, weight)
            move = self._move(slope + column(weight, gradient) * gradient, size, self.step * path.rate)
            path.trial = torch.where(
                column(taken, gradient), (path.trial - move).clamp(0, 1), (path.trial + path.x) / 2
            )
            path.next_loop((path.stale >= PATIENCE) | (path.step >= self.steps))
            done = path.loop >= self.outer
            if done.any():
                result[rows[done]] = path.best[done]
                classifier, images, rows, path, unit = keep(~done, classifier, images, rows, path, unit)
        return result

    def _distance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The distance term (N,) of perturbations (N, C, H, W) and its gradient."""
        if self.norm is Norm.L2:
            return self.norm.size(v) ** 2 / 2, v
        size = v.abs().flatten(1)
        reach = self.norm.size(v)[:, None].clamp_min(torch.finfo(v.dtype).tiny)
        temperature = (SOFTEST / reach).clamp_max(self.temperature)
        weights = (temperature * size).softmax(1)
        maximum = (weights * size).sum(1)
        slope = weights * (1 + temperature * (size - maximum[:, None]))
        return maximum, slope.view_as(v) * v.sign()

    def _move(self, direction: Tensor, distance: Tensor, step: Tensor) -> Tensor:
        """A step's vector (N, C, H, W) at this distance (N,), of this length (N,)."""
        if self.norm is Norm.LINF:
            return self.norm.scale_to(direction, step * distance)
        return column(step, direction) * direction


@dataclass
class _Path:
    """Where each of N images is in its loops."""

    x: Tensor
    """The last iterate taken."""
    trial: Tensor
    """What is evaluated next."""
    best: Tensor
    closest: Tensor
    """The distance of `best`, (N,)."""
    distance: Tensor
    barrier: Tensor
    """The two terms of the objective at x, (N,)."""
    rate: Tensor
    floor: Tensor
    """The objective when it last fell by enough, (N,)."""
    stale: Tensor
    """Steps since then, (N,)."""
    step: Tensor
    loop: Tensor

    @classmethod
    def at(cls, x: Tensor) -> _Path:
        """The first trial is x itself; it is taken whatever its objective is."""
        count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        high = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        return cls(x, x, x, high, high, high, torch.ones_like(high), high, count, count, count)

    def judge(self, wrong: Tensor, size: Tensor, distance: Tensor, barrier: Tensor, weight: Tensor) -> Tensor:
        """Take the trials that are misclassified and lower the objective, count, and say which were taken, (N,)."""
        closer = wrong & (size < self.closest)
        self.best = torch.where(column(closer, self.x), self.trial, self.best)
        self.closest = torch.where(closer, size, self.closest)
        objective = distance + weight * barrier
        taken = wrong & (objective <= self.distance + weight * self.barrier)
        self.x = torch.where(column(taken, self.x), self.trial, self.x)
        self.distance = torch.where(taken, distance, self.distance)
        self.barrier = torch.where(taken, barrier, self.barrier)
        self.rate = torch.where(taken, (GROW * self.rate).clamp_max(FASTEST), SHRINK * self.rate)
        fell = taken & (objective < self.floor - PROGRESS * distance)
        self.floor = torch.where(fell, objective, self.floor)
        self.stale = torch.where(fell, 0, self.stale + 1)
        self.step = self.step + 1
        return taken

    def next_loop(self, ended: Tensor) -> None:
        """Begin the next loop where one has ended, from x itself."""
        self.loop = self.loop + ended.long()
        self.step, self.stale = (torch.where(ended, 0, counter) for counter in (self.step, self.stale))
        self.floor, self.rate = torch.where(ended, torch.inf, self.floor), torch.where(ended, 1.0, self.rate)
        self.trial = torch.where(column(ended, self.x), self.x, self.trial)

    def select(self, rows: Tensor) -> _Path:
        return _Path(*keep(rows, *(getattr(self, f.name) for f in fields(self))))


@dataclass(frozen=True)
class _Barrier:
    """-log(p_wrong - p_label), (N,), of logits (N, K), p_wrong the largest of the others."""

    labels: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        own = log_p.gather(1, self.labels[:, None])[:, 0]
        other = log_p.scatter(1, self.labels[:, None], -torch.inf).amax(1)
        gap = (other - own).clamp_min(torch.finfo(logits.dtype).tiny)
        return -(other + (-torch.expm1(-gap)).log())
