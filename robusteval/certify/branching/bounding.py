"""Lower bounds of the margins of sub-problems: beta-CROWN (Wang et al. 2021), batched over sub-problems.

Where a ReLU y = max(x, 0) is held to be active (x >= 0), y = x, and for any multiplier b >= 0

    a y  =  a x  >=  (a - b) x,                                                                            (1)

where it is held to be inactive (x <= 0), y = 0 and a y = 0 >= b x. So every b >= 0 gives a bound, which holds for the
images of the sub-problem, and the best b is what the condition is worth. Slopes below the other ReLUs (alpha) and
multipliers (beta) are improved together, by Adam.

Rounding. x is the number that the network computes, and the conditions are about it: between them the two halves of a
split hold every image. The coefficient that goes on in (1) is the rounded a - b, which is at most a, since rounding is
monotonous and a is a number of the type; the other one is b, exactly. So (1) holds as it is computed, and nothing is
charged for it. All else is charged as in propagation/rounding.py, for values within the ball whatever the phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.certify.branching.phases import Rectifiers, Subproblems
from robusteval.certify.propagation.backward_bounds import pulled_back
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.values import Interval, Known, Lines
from robusteval.core import memory

RATES = (0.1, 0.3)
"""Of Adam, for slopes and for multipliers; falling to a tenth over the steps."""
DECAYS = (0.9, 0.99)
POINT = Box(0, 0, 1, 1)


AT_ONCE = 2**24
"""Numbers that are held of sub-problems that are bounded together: 64 MiB in float32."""
PER_VALUE = 24
"""Of each value of the network, a sub-problem."""


def together(graph: Graph) -> int:
    """How many sub-problems are bounded together."""
    return memory.rows(AT_ONCE, PER_VALUE * sum(math.prod(node.shape) for node in graph.nodes))


@dataclass(frozen=True, eq=False)
class Problem:
    """What sub-problems are about: M images of the classes `labels` (M,), their balls, and what is known of every value
    over these, whatever the phases."""

    graph: Graph
    rectifiers: Rectifiers
    ball: InputBall
    labels: Tensor
    known: list[Known]

    def intervals(self, k: int) -> Interval:
        """Of what the ReLUs at place k take, (M, C, H, W)."""
        return self.known[self.graph.nodes[k].inputs[0]].interval


@dataclass(frozen=True, eq=False)
class LeastMargins:
    """Of P sub-problems: lower bounds of their margins (P,), infinite where no image is left; the sub-problems, with
    the slopes and multipliers of these bounds; and the coefficients (P, C, H, W) of the pixels there."""

    margins: Tensor
    subproblems: Subproblems
    pixels: Tensor


def roots(problem: Problem, rows: Tensor) -> Subproblems:
    """The sub-problems without conditions of images `rows` (R,) against each other class: (R (K - 1),)."""
    classes = problem.graph.classes
    of = rows.repeat_interleave(classes)
    rival = torch.arange(classes, device=rows.device).repeat(len(rows))
    other = rival != problem.labels[of]
    of, rival = of[other], rival[other]
    return adaptive(problem, Subproblems.free(problem.rectifiers, of, rival, problem.graph.coefficients))


def adaptive(problem: Problem, subproblems: Subproblems) -> Subproblems:
    """The same with CROWN's slopes and without multipliers."""
    slopes = torch.zeros_like(subproblems.slopes)
    for k, part in problem.rectifiers.parts(slopes).items():
        interval = problem.intervals(k)
        part.copy_((interval.upper >= -interval.lower)[subproblems.of])
    return replace(subproblems, slopes=slopes, multipliers=torch.zeros_like(slopes))


class Relaxation:
    """What is known of every value under the conditions of sub-problems, each with its linear function of value k:
    coefficients (P, C, h, w), zero outside of `box`. By default the margins over the rivals."""

    def __init__(
        self,
        problem: Problem,
        subproblems: Subproblems,
        k: int | None = None,
        coefficients: Tensor | None = None,
        box: Box = POINT,
    ) -> None:
        self.problem, self.subproblems = problem, subproblems
        of, self.type = subproblems.of, problem.graph.coefficients
        self.k, self.box = problem.graph.last if k is None else k, box
        self.ball = InputBall(problem.ball.norm, problem.ball.x[of], problem.ball.eps[of])
        if coefficients is None:
            one = torch.eye(problem.graph.classes, dtype=self.type, device=of.device)
            coefficients = (one[problem.labels[of]] - one[subproblems.rival])[..., None, None]
        self.rows = coefficients[:, None]
        self.empty = torch.zeros(len(of), dtype=torch.bool, device=of.device)
        signs = problem.rectifiers.parts(subproblems.signs)
        self.known = [
            self._held(k, signs[k]) if k in signs else self._same(here)
            for k, here in enumerate(problem.known[: self.k + 1])
        ]

    def _same(self, here: Known) -> Known:
        of, lines = self.subproblems.of, here.lines
        if lines is not None:
            lines = Lines(*(x.index_select(1, of) for x in (lines.lower, lines.upper, lines.free)))
        return self._typed(Known(here.interval, here.below[of], here.above[of], here.faint[of], lines))

    def _held(self, k: int, sign: Tensor) -> Known:
        """Lines of ReLUs whose phases are held are exact; what rounding can add is that of any phase."""
        taken, here = self.problem.intervals(k), self._same(self.problem.known[k])
        lower, upper = taken.lower[self.subproblems.of], taken.upper[self.subproblems.of]
        self.empty |= ((sign > 0) & (upper < 0) | (sign < 0) & (lower > 0)).flatten(1).any(1)
        assert here.lines is not None
        held, active = sign != 0, (sign > 0).to(self.type)
        lines = [torch.where(held[:, None], active[:, None], x) for x in (here.lines.lower, here.lines.upper)]
        free = here.lines.free & ~held[:, None]
        return replace(here, above=torch.where(held, -here.below, here.above), lines=Lines(lines[0], lines[1], free))

    def _typed(self, here: Known) -> Known:
        """With constants in the type of the coefficients, into which a backward pass would bring them each time."""
        return replace(here, below=here.below.to(self.type), above=here.above.to(self.type))

    def least(
        self, slopes: Tensor, multipliers: Tensor, seen: dict[int, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lower bounds (P,) for slopes (P, T) in [0, 1] and multipliers (P, T) of at least 0, and the coefficients of
        the pixels."""
        shift = self.problem.rectifiers.parts(-self.subproblems.signs * multipliers)
        chosen = list(self.known)
        for k, part in self.problem.rectifiers.parts(slopes).items():
            if k <= self.k:
                lines = chosen[k].lines
                assert lines is not None
                lower = torch.where(lines.free, part[None, :, None], lines.lower)
                chosen[k] = replace(chosen[k], lines=replace(lines, lower=lower, shift=shift[k][:, None]))
        graph = self.problem.graph
        constant, a, box = pulled_back(graph, chosen, self.k, self.rows, self.box, seen=seen)
        bound = (constant + self.ball.least(a, box, None))[:, 0]
        whole = box.embed(a, Box.whole(graph.nodes[0].shape))[:, 0]
        return torch.where(self.empty, torch.inf, bound), whole


def bounded(problem: Problem, subproblems: Subproblems, steps: int) -> LeastMargins:
    """The best bounds of margins over so many steps; they stop where all are positive."""
    return optimised(Relaxation(problem, subproblems), steps, 0.0)


def optimised(relaxation: Relaxation, steps: int, enough: float) -> LeastMargins:
    """The best bounds over so many steps of Adam on slopes and multipliers. Never below those of the slopes and
    multipliers that the sub-problems come with; it stops where all are above `enough`."""
    subproblems = relaxation.subproblems
    slopes, multipliers = subproblems.slopes.clone(), subproblems.multipliers.clone()
    held, steps = subproblems.signs != 0, steps if slopes.numel() else 0
    moments = [torch.zeros_like(slopes) for _ in range(4)]
    best = slopes.new_full((len(slopes),), -torch.inf, dtype=torch.float64)
    kept = [slopes, multipliers, torch.zeros_like(relaxation.ball.x, dtype=slopes.dtype)]
    for step in range(steps + 1):
        last = step == steps
        slopes.requires_grad_(not last), multipliers.requires_grad_(not last)
        with torch.set_grad_enabled(not last):
            margins, pixels = relaxation.least(slopes, multipliers)
        better = margins.detach() > best
        best = torch.where(better, margins.detach(), best)
        now = (slopes.detach(), multipliers.detach(), pixels.detach())
        kept = [torch.where(better.reshape(-1, *[1] * (x.dim() - 1)), x, y) for x, y in zip(now, kept, strict=True)]
        if last or bool((best > enough).all()):
            break
        objective = margins.nan_to_num(0.0, 0.0, 0.0).sum()
        gradients = torch.autograd.grad(objective, (slopes, multipliers), allow_unused=True, materialize_grads=True)
        fall = 0.1 ** (step / steps)
        with torch.no_grad():
            moved = [
                _climbed(value, gradient.nan_to_num(0.0), moments[2 * i : 2 * i + 2], step, rate * fall)
                for i, (value, gradient, rate) in enumerate(zip((slopes, multipliers), gradients, RATES, strict=True))
            ]
        slopes, multipliers = moved[0].clamp(0, 1), moved[1].clamp_min(0) * held
    found = replace(subproblems, slopes=kept[0].detach(), multipliers=kept[1].detach())
    return LeastMargins(best, found, kept[2])


def _climbed(value: Tensor, gradient: Tensor, moments: list[Tensor], step: int, rate: float) -> Tensor:
    """A step of Adam (Kingma & Ba 2015) up, each entry on its own, so that sub-problems do not mind their batch."""
    mean, square = moments
    mean.lerp_(gradient, 1 - DECAYS[0])
    square.lerp_(gradient.square(), 1 - DECAYS[1])
    first, second = (1 - decay ** (step + 1) for decay in DECAYS)
    return value.detach() + rate / first * mean / ((square / second).sqrt() + 1e-8)
