"""The search tree of one image: its leaves, which together hold every image of the ball."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.certify.branching.phases import Subproblems


@dataclass(eq=False)
class Leaf:
    """A sub-problem that is not split: the class that must not win, phases, slopes and multipliers (T,) each, the bound
    of its margin in the ball that it was last asked in, and the radius within which it is proven."""

    rival: int
    signs: Tensor
    slopes: Tensor
    multipliers: Tensor
    bound: float
    radius: float


class Tree:
    """Leaves that are open, the least bound first; closed, which are proven; stuck, which cannot be split further."""

    def __init__(self) -> None:
        self.open: list[tuple[float, int, Leaf]] = []
        self.closed: list[Leaf] = []
        self.stuck: list[Leaf] = []
        self.used = 0
        """Sub-problems that were bounded."""
        self._pushed = itertools.count()

    @property
    def begun(self) -> bool:
        return bool(self.open or self.closed or self.stuck)

    @property
    def proven(self) -> bool:
        """Whether every leaf is, within the radius that was asked last."""
        return bool(self.closed) and not self.open and not self.stuck

    def push(self, leaf: Leaf) -> None:
        heapq.heappush(self.open, (leaf.bound, next(self._pushed), leaf))

    def pop(self, most: int) -> list[Leaf]:
        return [heapq.heappop(self.open)[2] for _ in range(min(most, len(self.open)))]

    def reopened(self, radius: float) -> list[Leaf]:
        """Takes out the leaves that are not proven within `radius`."""
        taken = [leaf for _, _, leaf in sorted(self.open, key=lambda entry: entry[:2])] + self.stuck
        taken += [leaf for leaf in self.closed if leaf.radius < radius]
        self.closed = [leaf for leaf in self.closed if leaf.radius >= radius]
        self.open, self.stuck = [], []
        return taken


def stacked(leaves: list[tuple[int, Leaf]]) -> Subproblems:
    """Leaves with their images as one batch."""
    of = torch.tensor([i for i, _ in leaves], dtype=torch.int64)
    rival = torch.tensor([leaf.rival for _, leaf in leaves], dtype=torch.int64)
    columns = [torch.stack([getattr(leaf, name) for _, leaf in leaves]) for name in ("signs", "slopes", "multipliers")]
    return Subproblems(of.to(columns[0].device), rival.to(columns[0].device), *columns)
