"""Better intervals inside a network, by backward passes from the entries that a maximum leaves open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robusteval.certify.propagation.backward_bounds import pulled_back
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.curves import Curve
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.narrowing import Narrowing
from robusteval.certify.propagation.ops import Max
from robusteval.certify.propagation.places import Box, shape
from robusteval.certify.propagation.values import Interval, Known
from robusteval.core import memory

AT_ONCE = 2**21
"""Numbers that one backward pass touches, 16 MiB."""


@dataclass(frozen=True, eq=False)
class Refined:
    """CROWN's bounds of the values that maxima take, met with the intervals, at most `affordable` numbers a value.

    Only entries that a maximum leaves open are looked at. All that lie in one place of the plane see the same part of
    every value below, so a backward pass from a place works on that part alone.

    earlier: what is known of the same images over balls of other radii, by value; it serves where those are no smaller,
    and what it decides is not looked at again. found: the same of these balls, as it comes out. Where not `afresh`, no
    backward pass is made and `earlier` has to do.
    """

    graph: Graph
    ball: InputBall
    affordable: int
    earlier: Mapping[int, Narrowing] = field(default_factory=dict)
    afresh: bool = True
    found: dict[int, Narrowing] = field(default_factory=dict)

    def __call__(self, known: list[Known], k: int) -> Interval:
        graph, interval = self.graph, known[k].interval
        maxima = [node.op for node in graph.nodes if isinstance(node.op, Max | Curve) and k in node.inputs]
        channels, height, width = graph.nodes[k].shape
        footprint = graph.footprint(k, Box(height // 2, width // 2, 1, 1))
        if not maxima or graph.exact(k) or channels * height * width * footprint > self.affordable:
            return interval
        bounds = Narrowing.still(self.ball.eps, interval)
        if k in self.earlier:
            bounds = bounds.met(self.earlier[k].at(self.ball.eps))
        if self.afresh:
            wanted = torch.stack([_open(op, bounds.interval) for op in maxima]).any(0)
            bounds = bounds.met(self._pulled(known, k, wanted, bounds))
        self.found[k] = bounds
        return bounds.interval

    def _pulled(self, known: list[Known], k: int, wanted: Tensor, bounds: Narrowing) -> Narrowing:
        """What backward passes say of entries (M, C, H, W) of value k that are `wanted`; of the others, `bounds`."""
        graph, channels = self.graph, self.graph.nodes[k].shape[0]
        lower, upper, rise, fall = (x.clone() for x in (bounds.lower, bounds.upper, bounds.rise, bounds.fall))
        for box in _boxes(graph, k, wanted):
            here = box.of(wanted).flatten(1).nonzero()
            for some in here.split(memory.rows(AT_ONCE, 2 * graph.footprint(k, box))):
                image, entry = some.unbind(1)
                least, narrows = _least(graph, known, self.ball, k, box, image, entry)
                channel, row, column = torch.unravel_index(entry, (channels, box.height, box.width))
                at = image, channel, box.top + row, box.left + column
                lower[at], upper[at] = least[:, 0], -least[:, 1]
                rise[at], fall[at] = narrows.unbind(1)
        return Narrowing(bounds.eps, lower, upper, rise, fall)


def refined(graph: Graph, ball: InputBall, affordable: int) -> Refined:
    """The same where nothing is known before."""
    return Refined(graph, ball, affordable)


def _boxes(graph: Graph, k: int, wanted: Tensor) -> list[Box]:
    """The places of the plane of value k where something is wanted; the whole plane where one pass can do all."""
    whole = Box.whole(graph.nodes[k].shape)
    if not wanted.any():
        return []
    if 2 * int(wanted.sum()) * graph.footprint(k, whole) <= memory.allowed(AT_ONCE):
        return [whole]
    return [Box(row, column, 1, 1) for row, column in wanted.any(0).any(0).nonzero().tolist()]


def _least(
    graph: Graph, known: list[Known], ball: InputBall, k: int, box: Box, image: Tensor, entry: Tensor
) -> tuple[Tensor, Tensor]:
    """Lower bounds (P, 2) of entries (P,) of a box of value k, counted through the box, each of its image (P,), and of
    the same with the other sign; and how fast they rise as the radius shrinks."""
    shape = graph.nodes[k].shape[0], box.height, box.width
    unit = torch.zeros(len(entry), math.prod(shape), dtype=graph.coefficients, device=entry.device)
    unit = unit.scatter(1, entry[:, None], 1.0).unflatten(1, shape)
    constant, a, place = pulled_back(graph, known, k, torch.stack([unit, -unit], dim=1), box, of=image)
    least, rise = ball.least_and_rise(a, place, image)
    return constant + least, rise


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
