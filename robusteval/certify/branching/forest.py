"""Inquiry trees of several images that grow together: best-first, the sub-problems of all in one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robusteval.certify.branching.bounding import Problem, bounded, roots, together
from robusteval.certify.branching.choosing import chosen
from robusteval.certify.branching.linear import closest_in_phases
from robusteval.certify.branching.phases import Subproblems
from robusteval.certify.branching.tree import Leaf, Tree, stacked
from robusteval.certify.branching.witnesses import Witnesses

WIDTH = 2**17
"""ReLUs of the sub-problems that are split of one image before the next look at which is worst."""
WIDEST = 128
"""Such sub-problems, however small the network."""
STEPS = (2, 6)
"""Of Adam: for every sub-problem, and more for those that these do not prove."""
LAST_STEPS = 100
"""For a sub-problem that cannot be split any further."""


class Forest:
    """The trees of the M images of a problem. `ask` opens what is not proven within a radius, `grow` splits it. Nothing
    here is random or measured in time, and a tree does not depend on the others."""

    def __init__(self, problem: Problem, witnesses: Witnesses) -> None:
        self.problem, self.witnesses = problem, witnesses
        self.trees = [Tree() for _ in problem.labels]
        self.together = together(problem.graph)
        self.width = max(1, min(WIDEST, WIDTH // max(1, problem.rectifiers.count)))

    def ask(self, rows: Tensor) -> None:
        """Open everything about images `rows` (R,) that is not proven within the radii of their balls."""
        new = torch.tensor([i for i in rows.tolist() if not self.trees[i].begun], dtype=torch.int64)
        taken = [(i, leaf) for i in rows.tolist() for leaf in self.trees[i].reopened(self._radius(i))]
        for some in new.split(max(1, self.together // self.problem.graph.classes)):
            if len(some):
                start = roots(self.problem, some)
                self._place(start, start.of.new_zeros(len(start), dtype=torch.float64))
        for leaves in _chunks(taken, self.together):
            self._place(stacked(leaves), torch.tensor([leaf.radius for _, leaf in leaves], dtype=torch.float64))

    def grow(self, rows: Sequence[int]) -> None:
        """Split the worst leaves of images `rows` and bound their halves; the images where their bounds are least are
        tried as adversarial examples."""
        picked = [(i, leaf) for i in rows for leaf in self.trees[i].pop(self.width)]
        best: dict[int, tuple[float, Tensor]] = {}
        for leaves in _chunks(picked, max(1, self.together // 2)):
            parents, eps = stacked(leaves), self.problem.ball.eps
            points, heights = self.witnesses.least(parents.of, bounded(self.problem, parents, 0).pixels, eps)
            for j, ((i, _), height) in enumerate(zip(leaves, heights.tolist(), strict=True)):
                if height > best.get(i, (-math.inf,))[0]:
                    best[i] = height, points[j]
            at, left = chosen(self.problem, parents, points)
            rest = left.nonzero()[:, 0]
            if len(rest):
                radius = torch.tensor([leaves[j][1].radius for j in rest.tolist()], dtype=torch.float64)
                self._place(parents.select(rest).split(at[rest]), torch.cat([radius, radius]))
            self._finish([leaf for leaf, more in zip(leaves, left.tolist(), strict=True) if not more])
        if best:
            of = torch.tensor(list(best), device=self.problem.labels.device)
            self.witnesses.climb(of, torch.stack([start for _, start in best.values()]), self.problem.ball.eps)

    def _radius(self, i: int) -> float:
        return float(self.problem.ball.eps[i])

    def _place(self, subproblems: Subproblems, radius: Tensor) -> None:
        """Bound sub-problems that are proven within `radius` (P,), and put them to the leaves of their images."""
        for i, count in enumerate(torch.bincount(subproblems.of, minlength=len(self.trees)).tolist()):
            self.trees[i].used += count
        rows = torch.arange(len(subproblems), device=subproblems.of.device)
        for steps in STEPS:
            found = bounded(self.problem, subproblems, steps)
            proven = found.margins > 0
            self._settle(found.subproblems.select(proven), rows[proven], found.margins[proven], radius, True)
            subproblems, rows, margins = found.subproblems.select(~proven), rows[~proven], found.margins[~proven]
            if not len(rows):
                return
        self._settle(subproblems, rows, margins, radius, False)

    def _settle(self, found: Subproblems, rows: Tensor, margins: Tensor, radius: Tensor, proven: bool) -> None:
        held = radius.to(margins)[rows].tolist()
        for j, (i, rival, bound) in enumerate(
            zip(found.of.tolist(), found.rival.tolist(), margins.nan_to_num(nan=-math.inf).tolist(), strict=True)
        ):
            tree = self.trees[i]
            signs, slopes, multipliers = (x[j].clone() for x in (found.signs, found.slopes, found.multipliers))
            leaf = Leaf(rival, signs, slopes, multipliers, bound, self._radius(i) if proven else held[j])
            if proven:
                tree.closed.append(leaf)
            else:
                tree.push(leaf)

    def _finish(self, leaves: list[tuple[int, Leaf]]) -> None:
        """Leaves without a ReLU to split at: bounded with patience, and proven or stuck."""
        for some in _chunks(leaves, self.together):
            found = bounded(self.problem, stacked(some), LAST_STEPS)
            rest = found.subproblems.select(~(found.margins > 0))
            if len(rest):
                points = closest_in_phases(self.problem, rest)
                self.witnesses.offer(rest.of, points.to(self.witnesses.examples))
            for (i, leaf), margin in zip(some, found.margins.tolist(), strict=True):
                if margin > 0:
                    leaf.radius = self._radius(i)
                    self.trees[i].closed.append(leaf)
                else:
                    self.trees[i].stuck.append(leaf)


def _chunks(leaves: list[tuple[int, Leaf]], size: int) -> Iterator[list[tuple[int, Leaf]]]:
    return (leaves[first : first + size] for first in range(0, len(leaves), size))
