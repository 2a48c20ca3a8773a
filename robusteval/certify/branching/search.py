"""Asking branch and bound whether balls are proven, and how far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from robusteval.certify.branching.bounding import Problem
from robusteval.certify.branching.forest import Forest
from robusteval.certify.branching.phases import Rectifiers
from robusteval.certify.branching.witnesses import Witnesses
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.values import Known, Lines
from robusteval.core.norms import Norm

Knows = Callable[[InputBall], list[Known]]
"""What is known of every value of the graph over the images of balls."""
SHARE = 0.5
"""Of the sub-problems that are left to an image, how many one question about its distance may take."""
COARSE = 1.02
"""Where the radius that was not proven is so much larger than the one that was, nothing between them is asked."""


class Inquiry:
    """M images of which balls are to be proven: `proven` (M,) are the radii that are, witnesses break them."""

    def __init__(self, graph: Graph, knows: Knows, norm: Norm, x: Tensor, labels: Tensor, witnesses: Witnesses) -> None:
        ball = InputBall(norm, x, x.new_zeros(len(x)))
        self.knows, self.witnesses = knows, witnesses
        self.forest = Forest(Problem(graph, Rectifiers.of(graph), ball, labels, knows(ball)), witnesses)
        self.proven = x.new_zeros(len(x))
        self.reach = norm.size(torch.maximum(x, 1 - x))

    def used(self, i: int) -> int:
        """Sub-problems that were bounded for image i."""
        return self.forest.trees[i].used

    def upper(self, i: int) -> float:
        """The distance of the closest witness of image i; of the farthest corner of the box where there is none."""
        return min(float(self.witnesses.distances[i]), float(self.reach[i]))

    def decide(self, eps: Mapping[int, float], domains: int) -> None:
        """Prove or break the balls of some images, by their radii, with about so many sub-problems each at most."""
        eps = {i: radius for i, radius in eps.items() if float(self.witnesses.distances[i]) > radius}
        end = {i: self.used(i) + domains for i in eps}
        self._ask(eps)
        going = list(eps)
        while going:
            self._note(going)
            going = [i for i in going if self._goes_on(i) and self.used(i) < end[i]]
            self.forest.grow(going)

    def close(self, rows: list[int], domains: int, tolerance: float) -> None:
        """Bring the proven radius and the closest witness of images together, up to a relative `tolerance`, with about
        so many sub-problems each at most.

        Asked is the ball half the tolerance smaller than the distance of the closest witness; a closer one makes it
        smaller. Where that takes too many sub-problems, half of the way down to what is proven is asked instead. What
        is proven of a larger ball stays so in a smaller one.
        """
        end = {i: self.used(i) + domains for i in rows}
        failed = {i: self.upper(i) for i in rows}
        until: dict[int, float] = {}
        self._ask(self._next(rows, failed, end, until, tolerance))
        going = list(until)
        while going:
            self._note(going)
            turned = [i for i in going if not self._goes_on(i) or self.used(i) >= until[i]]
            for i in turned:
                at, proven = float(self.forest.problem.ball.eps[i]), float(self.proven[i])
                # Nothing failed where it was proven, nor beyond a witness.
                failed[i] = self.upper(i) if self.upper(i) <= at or at <= proven else at
            asked = self._next(turned, failed, end, until, tolerance)
            going = [i for i in going if i not in turned or i in asked]
            self._ask(asked)
            self.forest.grow([i for i in going if self._goes_on(i)])

    def _next(
        self, rows: list[int], failed: dict[int, float], end: dict[int, int], until: dict[int, float], tolerance: float
    ) -> dict[int, float]:
        """The radii to ask next of the images that are not done; `until` says with how many sub-problems."""
        asked = {}
        for i in rows:
            proven, upper, left = float(self.proven[i]), self.upper(i), end[i] - self.used(i)
            exact = upper <= (1 + tolerance) * proven
            if exact or left <= 0 or (failed[i] <= COARSE * proven and failed[i] < upper):
                continue
            asked[i] = upper * (1 - tolerance / 2) if failed[i] >= upper else (proven + failed[i]) / 2
            until[i] = self.used(i) + max(1.0, SHARE * left)
        return asked

    def _ask(self, eps: Mapping[int, float]) -> None:
        if not eps:
            return
        ball, known = self.forest.problem.ball, self.forest.problem.known
        rows = torch.tensor(list(eps), device=ball.x.device)
        ball.eps[rows] = torch.tensor(list(eps.values()), dtype=torch.float64).to(ball.eps)
        now = self.knows(InputBall(ball.norm, ball.x[rows], ball.eps[rows]))
        for here, new in zip(known, now, strict=True):
            _replace(here, new, rows)
        self.forest.ask(rows)

    def _goes_on(self, i: int) -> bool:
        tree = self.forest.trees[i]
        broken = float(self.witnesses.distances[i]) <= float(self.forest.problem.ball.eps[i])
        return bool(tree.open) and not tree.stuck and not broken

    def _note(self, rows: list[int]) -> None:
        for i in rows:
            if self.forest.trees[i].proven:
                self.proven[i] = torch.maximum(self.proven[i], self.forest.problem.ball.eps[i])


def _replace(here: object, new: object, rows: Tensor) -> None:
    """Write what is known of some images over what was; the images lie along the first dimension, of lines along the
    second."""
    assert is_dataclass(here)
    for name in (f.name for f in fields(here)):
        old, value = getattr(here, name), getattr(new, name)
        if isinstance(old, Tensor):
            if isinstance(here, Lines):
                old[:, rows] = value
            else:
                old[rows] = value
        elif is_dataclass(old):
            _replace(old, value, rows)
