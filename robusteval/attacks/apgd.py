"""APGD: gradient ascent with momentum whose step size needs no tuning (search/pace.py).

Croce & Hein (2020), "Reliable evaluation of adversarial robustness", algorithm 1 and section 3.1 for L2 and Linf;
APGD-T is its targeted DLR loss (Eq. 7) on the most likely wrong classes. Croce & Hein (2021), "Mind the box", for L1:
see apgd_l1.py; `shrinking` is its multi-radius schedule. Deviations: an image leaves with its first misclassified
iterate; an image that goes back to its best point has no momentum in its next step; the last iterate is evaluated
without a gradient; with too few classes for DLR the margin takes its place; by bisection on the radius every other
ascent goes through the shrinking balls, in every norm, and searches go on until they have cost what was planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.search.active import keep
from robusteval.attacks.search.apgd_l1 import SparsePace
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.attacks.search.pace import Pace
from robusteval.attacks.search.targets import likeliest
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm, column
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

QUICK = 5
"""The first pass over all targets takes this part of the iterations."""
_SHRINKING = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Radii over the budget, and their share of the iterations."""
_ONE = ((1.0, 1.0),)


class APGD(FixedBudgetAttack):
    """Costs `iterations` + 1 forwards and `iterations` backwards a restart and target for an image that is never
    fooled, in shrinking balls two forwards more; an image that is leaves the batch at once."""

    name = "apgd"
    title = "APGD"
    summary = "gradient ascent with automatic step sizes, untargeted or targeted (Croce & Hein 2020, 2021)"
    norms = BALLS
    searches_again = True

    iterations: PositiveInt = 100
    restarts: PositiveInt = 1
    loss: Literal[Loss.CROSS_ENTROPY, Loss.MARGIN, Loss.DLR] = Loss.CROSS_ENTROPY
    """What the untargeted attack climbs. By bisection, DLR is closer where many classes are equally likely, and
    cross-entropy on models that resist in single pixels."""
    targets: PositiveInt | None = None
    """Attack this many of the most likely wrong classes one after another, on the targeted DLR loss."""
    finalists: PositiveInt | None = None
    """Attack only this many targets in full: those that came closest in a first pass over all `targets` with a fifth
    of the iterations. None for all, without such a pass."""
    shrinking: bool = False
    """In L1: begin in balls of three and two times the radius, where steps are longer."""

    def passes_within(self, images: int, classes: int) -> Passes:
        once = self._ascent_passes(self.iterations)
        if self.targets is None:
            return once * (self.restarts * images)
        aims = min(self.targets, classes - 1)
        few = aims if self.finalists is None else min(self.finalists, aims)
        quick = self._ascent_passes(max(1, self.iterations // QUICK)) * aims if few < aims else Passes()
        return (Passes(1) + quick + once * (few * self.restarts)) * images

    def _ascent_passes(self, iterations: int) -> Passes:
        """Of one ascent: a gradient a step, and a look at the last iterate of each ball."""
        spans = self._spans(iterations)
        return Passes.both(sum(steps for _, steps in spans)) + Passes(len(spans))

    def _spans(self, iterations: int) -> list[tuple[float, int]]:
        """The balls that one ascent goes through: radius over the budget, and steps."""
        return [(scale, math.ceil(share * iterations)) for scale, share in (_SHRINKING if self.shrinking else _ONE)]

    @model_validator(mode="after")
    def _shrinks_in_l1_only(self) -> Self:
        if self.shrinking and self.norm is not Norm.L1:
            raise ValueError(f"expected norm l1 with shrinking for apgd, got {self.norm.value}")
        return self

    def searching(self, number: int) -> Self:
        """By bisection every other search begins in the larger balls, in every norm: from there the ascent meets other
        parts of the boundary, on models that resist often closer ones."""
        return self.model_copy(update={"shrinking": bool(number % 2) or self.shrinking})

    def within(self, classifier: Classifier, images: Images, budget: Tensor, streams: Streams) -> Candidates:
        candidates = images.pixels.clone()
        fooled = torch.zeros_like(images.labels, dtype=torch.bool)

        def attempt(targets: Tensor | None, iterations: int) -> Tensor:
            """One ascent of every image that is not fooled yet; the highest loss of each (N,)."""
            values = torch.full_like(images.pixels[:, 0, 0, 0], -torch.inf)
            rows = (~fooled).nonzero()[:, 0]
            if len(rows):
                view, own, centers, labels, radius, to = keep(
                    rows, classifier, streams, images.pixels, images.labels, budget, targets
                )
                goal = Goal(self.loss, labels) if to is None else Goal(Loss.DLR, labels, to)
                found, fooled[rows], values[rows] = self._ascent(view, centers, goal, radius, own, iterations)
                candidates[rows] = where_rows(fooled[rows], found, centers)
            return values

        for targets in self._targets(classifier, images, attempt):
            for _ in range(self.restarts):
                attempt(targets, self.iterations)
        return Candidates(candidates)

    def _targets(
        self, classifier: Classifier, images: Images, attempt: Callable[[Tensor, int], Tensor]
    ) -> tuple[Tensor | None, ...]:
        """The classes (N,) to move towards in turn, the most promising first; None for untargeted."""
        if self.targets is None:
            return (None,)
        likely = likeliest(classifier.predict(images.pixels), images.labels, self.targets)
        if self.finalists is not None and self.finalists < likely.shape[1]:
            quick = max(1, self.iterations // QUICK)
            reached = torch.stack([attempt(targets, quick) for targets in likely.unbind(1)], dim=1)
            likely = likely.gather(1, reached.argsort(dim=1, descending=True, stable=True)[:, : self.finalists])
        return likely.unbind(1)

    def _ascent(
        self, classifier: Classifier, centers: Tensor, goal: Goal, budget: Tensor, streams: Streams, iterations: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `climb` gives from a random start, through the balls of the schedule."""
        x, fooled, value = centers, torch.zeros_like(goal.labels, dtype=torch.bool), budget
        for phase, (scale, steps) in enumerate(self._spans(iterations)):
            ball = Ball.around(centers, self.norm, scale * budget)
            x = returned(ball, x) if phase else start(ball, streams)
            x, fooled, value = climb(classifier, ball, goal, x, steps, leave=scale == 1)
        return x, fooled, value


def returned(ball: Ball, x: Tensor) -> Tensor:
    """Images (N, C, H, W) brought into the ball and the box, in L1 without leaving budget unspent."""
    return SparsePace.nearest(ball, x) if ball.norm is Norm.L1 else ball.nearest(x)


def start(ball: Ball, streams: Streams) -> Tensor:
    """A random point: with a pixel on the surface of the Linf ball, in a random direction in L2 and L1."""
    shape = tuple(ball.centers.shape[1:])
    if ball.norm is Norm.L1:
        return SparsePace.nearest(ball, ball.centers + streams.normal(*shape))
    direction = streams.normal(*shape) if ball.norm is Norm.L2 else 2 * streams.uniform(*shape) - 1
    return ball.nearest(ball.centers + ball.norm.scale_to(direction, ball.radius))


def climb(
    classifier: Classifier, ball: Ball, goal: Goal, x: Tensor, iterations: int, leave: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`iterations` steps up `goal` inside the ball from x: the first misclassified iterate of each image, or its best
    one, (N, C, H, W); who was fooled (N,); and the highest loss (N,) of those who were not. Without `leave`, the best
    one for all of them."""
    pace: Pace | SparsePace = (SparsePace if ball.norm is Norm.L1 else Pace).begin(ball)
    checkpoints = pace.checkpoints(iterations)
    result, fooled = x.clone(), torch.zeros_like(goal.labels, dtype=torch.bool)
    rows = torch.arange(len(x), device=x.device)
    before = best = x
    uphill = torch.zeros_like(x)
    top = last = torch.full_like(ball.radius, -torch.inf)
    highest = top.clone()
    for i in range(iterations):
        gradient, value, logits = classifier.gradient(x, goal)
        wrong = misclassified(logits, goal.labels)
        if leave and wrong.any():
            result[rows[wrong]], fooled[rows[wrong]] = x[wrong], True
            classifier, goal, pace, rows, x, before, best, uphill, top, last, gradient, value = keep(
                ~wrong, classifier, goal, pace, rows, x, before, best, uphill, top, last, gradient, value
            )
            if not len(rows):
                return result, fooled, highest
        gradient = torch.where(gradient.isfinite(), gradient, 0.0)
        higher = value > top
        best, uphill = where_rows(higher, x, best), where_rows(higher, gradient, uphill)
        top = torch.where(higher, value, top)
        if i:
            pace = pace.seen(value, last)
        if i in checkpoints:
            pace, back = pace.checked(best, top)
            x, before, gradient = (
                where_rows(back, best, x),
                where_rows(back, best, before),
                where_rows(back, uphill, gradient),
            )
        x, before, last = pace.move(x, before, gradient, first=i == 0), x, value
    logits = classifier.predict(x)
    value, wrong = goal(logits), misclassified(logits, goal.labels) & leave
    result[rows] = where_rows(wrong | (value > top), x, best)
    fooled[rows], highest[rows] = wrong, torch.maximum(value, top)
    return result, fooled, highest


def where_rows(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a (N, ...) where the mask (N,) holds, else b."""
    return torch.where(column(mask, a), a, b)
