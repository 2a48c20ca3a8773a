"""The variation of adversarial logit pairing of SmoothKernels, section 3 (after Kannan et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from robusteval.defenses.base import Batch, Carried, losses
from robusteval.defenses.pairing import Pairing, divergence


class LogitPairing(Pairing):
    """CE(f(x')) + gamma * mean KL(softmax f(x'), softmax f(x)), x' what raises the cross-entropy inside the ball."""

    name = "logit-pairing"
    title = "Logit pairing"
    summary = "adversarial cross-entropy and the divergence of clean from perturbed softmax (SmoothKernels, section 3)"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        moved, clean = network(self.perturbed(network, batch)), network(batch.pixels)
        return losses(moved, batch.labels).mean() + self.gamma * divergence(moved, clean).mean(), state
