"""Which ReLU a sub-problem is split at."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.branching.bounding import Problem, Relaxation
from robusteval.certify.branching.evaluating import inputs_at
from robusteval.certify.branching.phases import Subproblems

CANDIDATES = 3
"""By each of two scores, of which the halves are bounded to choose among them."""


def chosen(problem: Problem, subproblems: Subproblems, points: Tensor) -> tuple[Tensor, Tensor]:
    """The ReLU (P,) at which each sub-problem is split, and whether (P,) there is one left: among the first by two
    scores the one whose worse half has the higher bound (filtered smart branching, De Palma et al. 2021).

    The scores: what the chord of a ReLU costs the bound at most, as in BaBSR (Bunel et al. 2020) without the biases;
    and what its lines cost at `points` (P, C, H, W), where the bound is attained. All costs there add up to what the
    bound lacks of the margin of that image.
    """
    if not problem.rectifiers.count:
        return subproblems.of, torch.zeros_like(subproblems.of, dtype=torch.bool)
    with torch.no_grad():
        scores, left = _scores(problem, subproblems, points)
    return scores, left


def _scores(problem: Problem, subproblems: Subproblems, points: Tensor) -> tuple[Tensor, Tensor]:
    relaxation = Relaxation(problem, subproblems)
    seen: dict[int, Tensor] = {}
    relaxation.least(subproblems.slopes, subproblems.multipliers, seen)
    at = inputs_at(problem, points)
    most, here, free = [], [], []
    slopes = problem.rectifiers.parts(subproblems.slopes)
    signs = problem.rectifiers.parts(subproblems.signs)
    for k in problem.rectifiers.places:
        taken = problem.intervals(k)
        lower, upper = taken.lower[subproblems.of], taken.upper[subproblems.of]
        a = seen[k][:, 0].double() if k in seen else torch.zeros_like(lower)
        open_ = (lower < 0) & (upper > 0) & (signs[k] == 0)
        slope = upper / (upper - lower)
        x = at[k]
        y = x.clamp_min(0)
        gap = torch.where(a < 0, -a * (slope * (x - lower) - y), a * (y - slopes[k] * x))
        most.append((torch.where(open_, -a.clamp_max(0) * -slope * lower, 0.0)).flatten(1))
        here.append(torch.where(open_, gap, 0.0).flatten(1))
        free.append(open_.flatten(1))
    opened = torch.cat(free, 1)
    scores = [torch.where(opened, torch.cat(s, 1), -torch.inf) for s in (most, here)]
    several = min(CANDIDATES, opened.shape[1])
    # (candidates, P)
    candidates = torch.cat([score.topk(several, dim=1).indices for score in scores], 1).T
    left = opened.any(1)
    worse = torch.stack([_worse_half(problem, subproblems, c) for c in candidates])
    worse = torch.where(torch.stack([opened.gather(1, c[:, None])[:, 0] for c in candidates]), worse, -torch.inf)
    best = worse.argmax(0)
    return candidates.gather(0, best[None])[0], left


def _worse_half(problem: Problem, subproblems: Subproblems, at: Tensor) -> Tensor:
    """The lower bound (P,) of the worse half when each is split at the ReLU `at` (P,), without further ado."""
    halves = subproblems.split(at)
    margins, _ = Relaxation(problem, halves).least(halves.slopes, halves.multipliers)
    worse: Tensor = margins.nan_to_num(nan=-torch.inf).unflatten(0, (2, -1)).amin(0)
    return worse
