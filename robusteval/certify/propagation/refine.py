"""Better intervals inside a network, by backward passes from the entries that a maximum leaves open."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.ball import Ball
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.intervals import Tighten
from robusteval.certify.propagation.linear import pulled_back
from robusteval.certify.propagation.ops import Box, Max, shape
from robusteval.certify.propagation.values import Interval, Known

AT_ONCE = 2**21
"""Numbers that one backward pass touches, 16 MiB."""


def refined(graph: Graph, ball: Ball, affordable: int) -> Tighten:
    """CROWN's bounds of the values that maxima take, met with the intervals, at most `affordable` numbers a value.

    Only entries that a maximum leaves open are looked at. All that lie in one place of the plane see the same part of
    every value below, so a backward pass from a place works on that part alone.
    """

    def tighten(known: list[Known], k: int) -> Interval:
        interval = known[k].interval
        maxima = [node.op for node in graph.nodes if isinstance(node.op, Max) and k in node.inputs]
        channels, height, width = graph.nodes[k].shape
        footprint = graph.footprint(k, Box(height // 2, width // 2, 1, 1))
        if not maxima or graph.exact(k) or channels * height * width * footprint > affordable:
            return interval
        wanted = torch.stack([_open(op, interval) for op in maxima]).any(0)
        lower, upper = interval.lower.clone(), interval.upper.clone()
        for row, column in (wanted.any(0).any(0)).nonzero().tolist():
            here = wanted[:, :, row, column].nonzero()
            for some in here.split(max(1, AT_ONCE // (2 * footprint))):
                ends = _ends(graph, known, ball, k, some, Box(row, column, 1, 1))
                image, channel = some.unbind(1)
                lower[image, channel, row, column] = ends.lower
                upper[image, channel, row, column] = ends.upper
        return interval.met(Interval(lower, upper))

    return tighten


def _ends(graph: Graph, known: list[Known], ball: Ball, k: int, some: Tensor, place: Box) -> Interval:
    """The interval (P,) of entries of value k in one place, some (P, 2) the image and the channel of each."""
    image, channel = some.unbind(1)
    unit = torch.zeros(len(some), graph.nodes[k].shape[0], dtype=graph.coefficients, device=some.device)
    unit.scatter_(1, channel[:, None], 1.0)
    rows = torch.stack([unit, -unit], dim=1)[..., None, None]
    constant, a, box = pulled_back(graph, known, k, rows, place, of=image)
    least = constant + ball.least(a, box, image)
    return Interval(least[:, 0], -least[:, 1])


def _open(op: Max, interval: Interval) -> Tensor:
    """The entries (M, C, H, W) that can be a maximum, where it is not known to be a single one of them."""
    level = op.apply(interval.lower)
    candidates = op.members(interval.upper) > level
    decided = (candidates.sum(0) == 1) & ((level > 0) if op.floor else True)
    marks, box = op.scattered((candidates & ~decided).double(), Box.whole(shape(level)))
    return box.embed(marks, Box.whole(shape(interval.lower))) > 0
