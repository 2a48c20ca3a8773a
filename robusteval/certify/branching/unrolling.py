"""A graph whose maxima over windows are written as ReLUs, so that every maximum can be split into phases.

For real numbers max(a, b) = b + max(a - b, 0), exactly. The network takes a maximum without any rounding, so what is
written here between its inputs and its output are real numbers of what it computes, and every allowance that is charged
to them as if they were computed is room to spare.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from robusteval.certify.propagation.graph import Graph, Node
from robusteval.certify.propagation.ops import Add, Max, Op
from robusteval.certify.propagation.places import Windows
from robusteval.certify.propagation.weighted import Conv2d


def unrolled(graph: Graph) -> Graph:
    """The graph with each maximum over a window as ReLUs of differences. Left as they are: windows whose padding would
    count as zero where the network ignores it, and those that hang over it (ceil_mode)."""
    nodes: list[Node] = []
    where: dict[int, int] = {}
    for k, node in enumerate(graph.nodes):
        inputs = tuple(where[j] for j in node.inputs)
        op = node.op
        if isinstance(op, Max) and not op.single and not any(op.view.over) and (op.floor or not any(op.view.padding)):
            where[k] = _unrolled(nodes, op, inputs[0], node)
        else:
            nodes.append(replace(node, inputs=inputs))
            where[k] = len(nodes) - 1
    return replace(graph, nodes=tuple(nodes))


def _unrolled(nodes: list[Node], op: Max, source: int, node: Node) -> int:
    """Appends a maximum over windows of value `source`; the place of its value."""
    shape, channels = node.shape, node.shape[0]
    rectifier = Max(Windows((1, 1), (1, 1), (0, 0), (1, 1), shape[1:]), floor=True)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    total, difference = Add((one, one)), Add((one, -one))

    def append(op: Op, *inputs: int) -> int:
        nodes.append(Node(op, inputs, shape, f"{node.name}/{len(nodes)}"))
        return len(nodes) - 1

    def members(signs: dict[int, float]) -> int:
        """A sum of entries of each window, each with its sign."""
        weight = torch.zeros(channels, 1, *op.view.kernel, dtype=torch.float64)
        for entry, sign in signs.items():
            weight.flatten(1)[:, entry] = sign
        return append(Conv2d(weight, None, op.view, groups=channels), source)

    entries = op.view.kernel[0] * op.view.kernel[1]
    largest: list[int] = []
    for first in range(0, entries - 1, 2):
        above = append(rectifier, members({first: 1.0, first + 1: -1.0}))
        largest.append(append(total, members({first + 1: 1.0}), above))
    if entries % 2:
        largest.append(members({entries - 1: 1.0}))
    while len(largest) > 1:
        left, right = largest.pop(0), largest.pop(0)
        largest.append(append(total, right, append(rectifier, append(difference, left, right))))
    return append(rectifier, largest[0]) if op.floor else largest[0]
