"""The graph of a network: its layers in the order of evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robusteval.certify.propagation.ops import Add, Affine, Max, Op, Reshape, Scale
from robusteval.certify.propagation.places import Box, Shape
from robusteval.certify.propagation.rounding import Precision
from robusteval.certify.propagation.weighted import Conv2d, Linear


@dataclass(frozen=True, eq=False)
class Node:
    """A layer: what it does, which earlier values it takes, the shape of its own, its name in the network."""

    op: Op
    inputs: tuple[int, ...]
    shape: Shape
    name: str


@dataclass(frozen=True, eq=False)
class Graph:
    """nodes[0] is the image (its op does nothing), nodes[-1] the logits (K, 1, 1).

    dtype: the type that the network computes in; coefficients: the type that backward passes compute in. All else is
    float64.
    """

    nodes: tuple[Node, ...]
    dtype: torch.dtype
    coefficients: torch.dtype

    @property
    def precision(self) -> Precision:
        return Precision(self.dtype, self.coefficients, len(self.nodes))

    @property
    def last(self) -> int:
        return len(self.nodes) - 1

    @property
    def classes(self) -> int:
        return self.nodes[-1].shape[0]

    def pixelwise(self, k: int) -> bool:
        """Whether value k is the image itself, entry by entry: shifted, scaled, reshaped."""
        while k:
            if not isinstance(self.nodes[k].op, Scale | Reshape):
                return False
            (k,) = self.nodes[k].inputs
        return True

    def exact(self, k: int) -> bool:
        """Whether intervals are exact for value k: a first affine layer and what scales it."""
        while isinstance(self.nodes[k].op, Scale | Reshape) and k:
            (k,) = self.nodes[k].inputs
        return k == 0 or (isinstance(self.nodes[k].op, Linear | Conv2d) and self.pixelwise(self.nodes[k].inputs[0]))

    def bent(self, k: int) -> bool:
        """Whether value k is a x + b max(x, 0) of another value x, as LeakyReLU and the magnitude are."""
        node = self.nodes[k]
        if not isinstance(node.op, Add):
            return False
        x, other = node.inputs
        inner = self.nodes[other]
        return isinstance(inner.op, Max) and inner.op.single and inner.op.floor and inner.inputs == (x,)

    def tail(self) -> int:
        """The value from which a chain of affine layers leads to the logits."""
        k = self.last
        while k and isinstance(self.nodes[k].op, Affine) and len(self.nodes[k].inputs) == 1:
            (k,) = self.nodes[k].inputs
        return k

    def footprint(self, k: int, box: Box) -> int:
        """How many numbers a backward pass from a box of value k touches, a row."""
        boxes, total = {k: box}, 0
        while boxes:
            at = max(boxes)
            here, node = boxes.pop(at), self.nodes[at]
            total += node.shape[0] * here.height * here.width
            if at:
                for source, part in zip(node.inputs, node.op.sources(here), strict=True):
                    boxes[source] = boxes[source].union(part) if source in boxes else part
        return total
