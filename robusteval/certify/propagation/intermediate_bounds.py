"""Better intervals inside a network, by backward passes from the entries that a maximum leaves open."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robusteval.certify.propagation.backward_bounds import pulled_back
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.interval_bounds import Tighten
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.places import Box, shape
from robusteval.certify.propagation.values import Interval, Known
from robusteval.core import memory

AT_ONCE = 2**21
"""Numbers that one backward pass touches, 16 MiB."""


def refined(graph: Graph, ball: InputBall, affordable: int) -> Tighten:
    """CROWN's bounds of the values that maxima take, met with the intervals, at most `affordable` numbers a value.

    Only entries that a maximum leaves open are looked at. All that lie in one place of the plane see the same part of
    every value below, so a backward pass from a place works on that part alone.
    """

    def tighten(known: list[Known], k: int) -> Interval:
        interval = known[k].interval
        maxima = [node.op for node in graph.nodes if isinstance(node.op, Max | Curve) and k in node.inputs]
        channels, height, width = graph.nodes[k].shape
        footprint = graph.footprint(k, Box(height // 2, width // 2, 1, 1))
        if not maxima or graph.exact(k) or channels * height * width * footprint > affordable:
            return interval
        wanted = torch.stack([_open(op, interval) for op in maxima]).any(0)
        lower, upper = interval.lower.clone(), interval.upper.clone()
        for box in _boxes(graph, k, wanted):
            here = box.of(wanted).flatten(1).nonzero()
            for some in here.split(memory.rows(AT_ONCE, 2 * graph.footprint(k, box))):
                image, entry = some.unbind(1)
                ends = _ends(graph, known, ball, k, box, image, entry)
                channel, row, column = torch.unravel_index(entry, (channels, box.height, box.width))
                at = image, channel, box.top + row, box.left + column
                lower[at], upper[at] = ends.lower, ends.upper
        return interval.met(Interval(lower, upper))

    return tighten


def _boxes(graph: Graph, k: int, wanted: Tensor) -> list[Box]:
    """The places of the plane of value k where something is wanted; the whole plane where one pass can do all."""
    whole = Box.whole(graph.nodes[k].shape)
    if not wanted.any():
        return []
    if 2 * int(wanted.sum()) * graph.footprint(k, whole) <= memory.allowed(AT_ONCE):
        return [whole]
    return [Box(row, column, 1, 1) for row, column in wanted.any(0).any(0).nonzero().tolist()]


def _ends(
    graph: Graph, known: list[Known], ball: InputBall, k: int, box: Box, image: Tensor, entry: Tensor
) -> Interval:
    """The interval (P,) of entries (P,) of a box of value k, counted through the box, each of its image (P,)."""
    shape = graph.nodes[k].shape[0], box.height, box.width
    unit = torch.zeros(len(entry), math.prod(shape), dtype=graph.coefficients, device=entry.device)
    unit = unit.scatter(1, entry[:, None], 1.0).unflatten(1, shape)
    constant, a, place = pulled_back(graph, known, k, torch.stack([unit, -unit], dim=1), box, of=image)
    least = constant + ball.least(a, place, image)
    return Interval(least[:, 0], -least[:, 1])


def _open(op: Max | Curve, interval: Interval) -> Tensor:
    """The entries (M, C, H, W) that can be a maximum, where it is not known to be a single one of them; all of a curve
    that can be more than one."""
    if isinstance(op, Curve):
        return interval.upper > interval.lower
    level = op.apply(interval.lower)
    candidates = op.members(interval.upper) > level
    decided = (candidates.sum(0) == 1) & ((level > 0) if op.floor else True)
    marks, box = op.scattered((candidates & ~decided).double(), Box.whole(shape(level)))
    return box.embed(marks, Box.whole(shape(interval.lower))) > 0
