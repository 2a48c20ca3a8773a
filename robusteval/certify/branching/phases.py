"""The ReLUs of a graph side by side, and sub-problems: which of them are held to be active or inactive."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ops import Max


@dataclass(frozen=True)
class Rectifiers:
    """The T ReLUs of a graph: of each layer of them its place in the graph, that of its input, and its shape."""

    places: tuple[int, ...]
    sources: tuple[int, ...]
    shapes: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, graph: Graph) -> Rectifiers:
        found = [
            (k, node.inputs[0], node.shape)
            for k, node in enumerate(graph.nodes)
            if isinstance(node.op, Max) and node.op.single and node.op.floor
        ]
        return cls(tuple(k for k, _, _ in found), tuple(j for _, j, _ in found), tuple(s for _, _, s in found))

    def before(self, k: int) -> Rectifiers:
        """Those that value k depends on, or may."""
        chosen = [i for i, place in enumerate(self.places) if place < k]
        places, sources = (tuple(column[i] for i in chosen) for column in (self.places, self.sources))
        return Rectifiers(places, sources, tuple(self.shapes[i] for i in chosen))

    @property
    def count(self) -> int:
        return sum(map(math.prod, self.shapes))

    def parts(self, flat: Tensor) -> dict[int, Tensor]:
        """What (P, T) says of each layer, by its place: (P, C, H, W)."""
        split = flat.split([math.prod(shape) for shape in self.shapes], dim=1)
        pairs = zip(self.places, split, self.shapes, strict=True)
        return {k: part.unflatten(1, shape) for k, part, shape in pairs}


@dataclass(frozen=True, eq=False)
class Subproblems:
    """P sub-problems over T ReLUs: images on which some of these are active or inactive.

    of (P,): the image that each is about; rival (P,): the class that must not win; signs (P, T) int8: 1 where the input
    of a ReLU is held to be at least 0, -1 at most 0, 0 where it may be anything. slopes and multipliers (P, T): where
    the bound stood last, to go on from there.
    """

    of: Tensor
    rival: Tensor
    signs: Tensor
    slopes: Tensor
    multipliers: Tensor

    @classmethod
    def free(cls, rectifiers: Rectifiers, of: Tensor, rival: Tensor, dtype: torch.dtype) -> Self:
        """Without conditions."""
        nothing = torch.zeros(len(of), rectifiers.count, dtype=dtype, device=of.device)
        return cls(of, rival, nothing.to(torch.int8), nothing, nothing)

    def __len__(self) -> int:
        return len(self.of)

    def select(self, rows: Tensor) -> Self:
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    def split(self, at: Tensor) -> Self:
        """Both halves of each at the ReLU `at` (P,): (2 P,), first the active ones."""
        rows = torch.arange(len(self), device=at.device)
        halves = []
        for sign in (1, -1):
            signs = self.signs.clone()
            signs[rows, at] = sign
            halves.append(signs)
        twice = [torch.cat([x, x]) for x in (self.of, self.rival, self.slopes, self.multipliers)]
        return type(self)(twice[0], twice[1], torch.cat(halves), twice[2], twice[3])

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))
