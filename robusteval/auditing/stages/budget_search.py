"""The smallest budget of a grid at which an attack breaks each image, without an attack at every budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.attacks.base import Attack
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import BUDGET_TOLERANCE
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


@dataclass(frozen=True)
class Measured:
    """What an attack measured on the way, (M,) by quantity, for some of the images (M,), each at the budget that it was
    given (0 for none)."""

    rows: Tensor
    values: Mapping[str, Tensor]
    at: NDArray[Any]


@dataclass(frozen=True)
class Broken:
    """Of N images and B budgets: the closest adversarial examples (N, C, H, W), the image itself where none was found;
    the first budget that each serves (N,), B for none; evaluations forward and backward (2, B, N); how many answers
    and gradients of each image were not finite (2, N); what the attack measured; and the seconds that its models
    took."""

    examples: Tensor
    served: Tensor
    costs: Tensor
    non_finite: Tensor
    measured: list[Measured]
    seconds: float


def search_budgets(
    attack: Attack,
    source: Classifier,
    target: Classifier,
    images: Images,
    correct: Tensor,
    grid: NDArray[np.float64],
    streams: Streams,
    starts: Tensor | None = None,
) -> Broken:
    """Attack the correctly classified images on `source`, judged on `target`, at the radii (N, B) of each, ascending.

    An adversarial example at one budget serves the larger ones, and a failure at one stands for the smaller ones, so
    that the budgets of an image are searched by bisection: O(log B) attacks instead of B. A budget of NaN, alone, is a
    search for the smallest distance. An attack that improves what others found begins at `starts` (S, N, C, H, W), the
    first of which are the closest in its norm, and never ends farther away than those. The judge's evaluations are
    booked to `target`.
    """
    radii, last = torch.tensor(grid, device=images.pixels.device), grid.shape[1]
    costs = torch.zeros(2, last, len(images), dtype=torch.float64)
    seconds = 0.0
    measured: list[Measured] = []
    best = images.pixels.clone()
    non_finite = torch.zeros(2, len(images), dtype=torch.float64)
    failed = torch.full_like(images.labels, -1)
    served = torch.where(correct, last, 0)
    while len(rows := (served - failed > 1).nonzero()[:, 0]):
        at = (failed[rows] + served[rows]) // 2
        view, chosen = source.metered(len(images)).select(rows), images.select(rows)
        given = radii[rows, at].to(best) if attack.fixed_budget else None
        if starts is None:
            found = attack.run(view, chosen, given, streams.select(rows))
        else:
            found = attack.improve(view, chosen, starts[:, rows], streams.select(rows))
        costs[:, at.cpu(), rows.cpu()] += torch.stack([view.meter.forwards, view.meter.backwards])[:, rows.cpu()]
        non_finite += torch.stack([view.meter.non_finite_answers, view.meter.non_finite_gradients])
        seconds += view.meter.stopwatch.seconds
        measured.append(Measured(rows, found.measurements, np.nan_to_num(grid[rows.cpu(), at.cpu()])))
        verdict = judge(target.select(rows), chosen, found.examples, attack.norm, given)
        won = rows[verdict.success]
        best[won] = found.examples[verdict.success]
        failed[rows[~verdict.success]] = at[~verdict.success]
        distance = getattr(verdict, attack.norm.value)[verdict.success]
        fits = distance[:, None] <= radii[won] * (1 + BUDGET_TOLERANCE)
        served[won] = at[verdict.success] if given is None else torch.minimum(at[verdict.success], (~fits).sum(1))
    if starts is not None:
        best, served = _no_farther(attack, target, images, correct, best, served, starts[0])
    return Broken(best, served, costs, non_finite, measured, seconds)


def _no_farther(
    attack: Attack, target: Classifier, images: Images, correct: Tensor, best: Tensor, served: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """What was found, and the first budget that it serves; the start itself where that is closer, or nothing was
    found that the judge takes, as after a search in a shorter floating-point type."""
    found, begun = (getattr(judge(target, images, x, attack.norm, None), attack.norm.value) for x in (best, start))
    kept = correct & (begun < torch.where(served == 0, found, torch.inf))
    return torch.where(kept[:, None, None, None], start, best), torch.where(kept, 0, served)
