"""Projected gradient ascent on a training batch: what the defenses with adversarial examples share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from robusteval.core.methods import NormedMethod, Radius
from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch, Defense, losses, statistics_kept


class Adversarial(Defense, NormedMethod):
    """A defense that perturbs its batches inside a ball: projected gradient ascent from a random start.

    The start is uniform in the Linf ball; for L1 and L2 (a deviation) that cube's noise, projected on the ball. The
    network is in train mode; the steps leave the running statistics of batch normalisation alone.
    """

    norm: Norm = Norm.LINF
    """Norm of the ball: linf, l2 or l1."""
    budget: Radius
    """Radius of the ball in pixel units, such as 8/255."""
    steps: PositiveInt = 7
    """Of gradient ascent."""
    step: PositiveFloat = 0.25
    """Step size relative to the budget."""

    def perturbed(self, network: nn.Module, batch: Batch, climb: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Adversarial examples (N, C, H, W) inside the ball and the box. `climb` is the loss (N,) of logits (N, K)
        that they raise: the cross-entropy of the labels unless another is given."""
        noise = self.norm.project(self.budget * (batch.uniform() * 2 - 1), self.budget)
        start = (batch.pixels + noise).clamp(0, 1)
        raised = climb or partial(losses, labels=batch.labels)
        return climbed(
            network, raised, batch.pixels, start, self.norm, self.budget, self.steps, self.step * self.budget
        )


def climbed(
    network: nn.Module,
    climb: Callable[[Tensor], Tensor],
    pixels: Tensor,
    start: Tensor,
    norm: Norm,
    budget: float,
    steps: int,
    step: float,
) -> Tensor:
    """OpNorm Eq. 17: `steps` steps of length `step` along the steepest direction of `norm`, each followed by the
    projection on the ball of radius `budget` around `pixels` and on the box; from `start`. Detached."""
    x = start
    with statistics_kept(network):
        for _ in range(steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(climb(network(x)).sum(), x)
            moved = x.detach() + step * norm.steepest(gradient)
            x = (pixels + norm.project(moved - pixels, budget)).clamp(0, 1)
    return x.detach()
