"""The variation of adversarial logit pairing of SmoothKernels, section 3 (after Kannan et al. 2018)."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from robusteval.defenses.ascent import Adversarial
from robusteval.defenses.base import Batch, Carried, losses
from robusteval.defenses.trades import divergence


class LogitPairing(Adversarial):
    """CE(f(x')) + gamma * mean KL(softmax f(x'), softmax f(x)), x' what raises the cross-entropy inside the ball."""

    name = "logit-pairing"
    title = "Logit pairing"
    summary = "adversarial cross-entropy and the divergence of clean from perturbed softmax (SmoothKernels, section 3)"

    gamma: NonNegativeFloat = 1.0
    """Weight of the divergence; the paper takes 0.1, 1 and 10."""
    steps: PositiveInt = 10
    """Of gradient ascent."""

    @property
    def says(self) -> str:
        return f", gamma {self.gamma:g}, budget {self.budget:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        moved, clean = network(self.perturbed(network, batch)), network(batch.pixels)
        return losses(moved, batch.labels).mean() + self.gamma * divergence(moved, clean).mean(), state
