"""Adversarial training for free (Shafahi et al. 2019; GradReg, section 4)."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from robusteval.core.methods import Radius
from robusteval.defenses.base import Batch, Carried, Defense, losses


class FreeTraining(Defense):
    """Every batch is replayed `replays` times; each replay's single pass back moves the weights and the perturbation.

    The perturbation (Linf) starts at zero, moves by `budget` along the gradient's sign, stays in the ball and carries
    over to the next batch. Give it an m-th of the epochs, as its authors do, so that it costs what standard training
    costs.
    """

    name = "free-training"
    title = "Free adversarial training"
    summary = "each batch replayed m times, one gradient for weights and perturbation (Shafahi et al. 2019)"

    budget: Radius
    """Radius of the Linf ball in pixel units, such as 8/255."""
    replays: PositiveInt = 8
    """m: updates with each batch; GradReg takes 2 and 8."""

    @property
    def says(self) -> str:
        return f" m = {self.replays}, budget {self.budget:.4g}"

    @property
    def updates(self) -> int:
        return self.replays

    def begin(self, network: nn.Module, pixels: Tensor, generator: torch.Generator) -> Carried:
        return {"perturbation": torch.zeros_like(pixels[:0])}

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        return losses(network(self._moved(batch, state)), batch.labels).mean(), state

    def backward(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        x = self._moved(batch, state).requires_grad_()
        loss = losses(network(x), batch.labels).mean()
        loss.backward()
        assert x.grad is not None
        last = state["perturbation"]
        moved = (self._carried(batch, state) + self.budget * x.grad.sign()).clamp(-self.budget, self.budget)
        # A last batch of an epoch may be smaller: the rest of the perturbation waits for the next one.
        return loss.detach(), {"perturbation": torch.cat([moved, last[len(moved) :]])}

    def _carried(self, batch: Batch, state: Carried) -> Tensor:
        """The perturbation for a batch of any size; zero where there has been none."""
        known = state["perturbation"][: len(batch.pixels)].to(batch.pixels)
        return torch.cat([known, torch.zeros_like(batch.pixels[len(known) :])])

    def _moved(self, batch: Batch, state: Carried) -> Tensor:
        return (batch.pixels + self._carried(batch, state)).clamp(0, 1).detach()
