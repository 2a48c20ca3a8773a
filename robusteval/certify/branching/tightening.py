"""Better intervals of what ReLUs take, by slopes optimised for each end of each (alpha-CROWN, Xu et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.branching.bounding import Problem, Relaxation, optimised, together
from robusteval.certify.branching.phases import Rectifiers, Subproblems
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.interval_bounds import Tighten
from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.values import Interval, Known


def tightened(graph: Graph, ball: InputBall, tighten: Tighten, steps: int) -> Tighten:
    """`tighten`, and so many steps for the ends of what then may still lie on both sides of zero before a ReLU."""
    rectifiers = Rectifiers.of(graph)

    def again(known: list[Known], k: int) -> Interval:
        interval = tighten(known, k)
        if k not in rectifiers.sources or not any(p < k for p in rectifiers.places):
            return interval
        wanted = (interval.lower < 0) & (interval.upper > 0)
        lower, upper = interval.lower.clone(), interval.upper.clone()
        problem = Problem(graph, rectifiers.before(k), ball, torch.zeros(len(ball.x)), known)
        for some in wanted.nonzero().split(together(graph)):
            image, *at = some.unbind(1)
            where = (image, *at)
            for sign, end in ((1.0, lower), (-1.0, upper)):
                found = sign * _least(problem, k, where, sign, steps)
                end[where] = torch.fmax(found, end[where]) if sign > 0 else torch.fmin(found, end[where])
        return Interval(lower, upper)

    return again


def _least(problem: Problem, k: int, where: tuple[Tensor, ...], sign: float, steps: int) -> Tensor:
    """Lower bounds (P,) of `sign` times entries (images, channels, rows, columns) of value k."""
    image, *at = where
    shape = problem.graph.nodes[k].shape
    rows = torch.zeros(len(image), *shape, dtype=problem.graph.coefficients, device=image.device)
    rows[(torch.arange(len(image), device=image.device), *at)] = sign
    free = Subproblems.free(problem.rectifiers, image, torch.zeros_like(image), rows.dtype)
    slopes = [(problem.intervals(p).upper >= -problem.intervals(p).lower).flatten(1) for p in problem.rectifiers.places]
    start = Subproblems(free.of, free.rival, free.signs, torch.cat(slopes, 1)[image].to(rows), free.multipliers)
    return optimised(Relaxation(problem, start, k, rows, Box.whole(shape)), steps, 0.0).margins
