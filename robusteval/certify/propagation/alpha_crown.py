"""The slopes below ReLUs, chosen for the margins (alpha-CROWN, Xu et al. 2021): any in [0, 1] is sound."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.margins import linear_margins
from robusteval.certify.propagation.values import Known, Lines

RATE = 0.2
"""Of Adam, falling to a tenth over the steps."""


def optimised_margins(
    graph: Graph, known: list[Known], ball: InputBall, labels: Tensor, steps: int, rate: float = RATE
) -> Tensor:
    """(M, K - 1): the best of linear_margins over `steps` of gradient ascent on the slopes, for each margin its own.

    Starts from CROWN's slopes and keeps the best seen, so that it is never below linear_margins. Stops when all margins
    are positive. The intervals inside the network stay as they are (Xu et al. optimise those, too).
    """
    best = linear_margins(graph, known, ball, labels)
    rows = best.shape[1]
    slopes = {
        k: _slopes(here.lines, rows) for k, here in enumerate(known) if here.lines is not None and here.lines.some
    }
    if not slopes or steps == 0:
        return best
    optimiser = torch.optim.Adam(slopes.values(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.1 ** (1 / steps))
    for _ in range(steps):
        if (best > 0).all():
            break
        with torch.enable_grad():
            chosen = [replace(here, lines=_with(here.lines, slopes.get(k))) for k, here in enumerate(known)]
            margins = linear_margins(graph, chosen, ball, labels)
            gradients = torch.autograd.grad(-margins.nan_to_num(0.0).sum(), list(slopes.values()))
        best = torch.fmax(best, margins.detach())
        for slope, gradient in zip(slopes.values(), gradients, strict=True):
            slope.grad = gradient.nan_to_num(0.0)
        optimiser.step()
        schedule.step()
        for slope in slopes.values():
            slope.data.clamp_(0, 1)
    return best


def _slopes(lines: Lines, rows: int) -> Tensor:
    """CROWN's slopes (M, R, C, H, W), a copy for each row."""
    start = (lines.lower * lines.free).sum(0)
    return start.expand(-1, rows, -1, -1, -1).clone().requires_grad_()


def _with(lines: Lines | None, slopes: Tensor | None) -> Lines | None:
    if lines is None or slopes is None:
        return lines
    return replace(lines, lower=torch.where(lines.free, slopes, lines.lower))
