"""Weight decay: cross-entropy and the squared L2 norm of the weights (SGR, section 4.1)."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from robusteval.defenses.base import Batch, Carried, Defense, losses


class WeightDecay(Defense):
    """CE + decay / 2 * |w|_2^2 over all weights of matrices and kernels; biases and normalisations are left alone.

    In the loss, as SGR has it, and not in the update: under Adam the two differ.
    """

    name = "weight-decay"
    title = "Weight decay"
    summary = "cross-entropy and the squared L2 norm of the weights (SGR, section 4.1)"

    decay: NonNegativeFloat = 0.005
    """Of the penalty; SGR's appendix 7.2 has 0.005."""

    @property
    def says(self) -> str:
        return f" {self.decay:g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean = losses(network(batch.pixels), batch.labels).mean()
        squares = [w.square().sum() for w in network.parameters() if w.dim() > 1]
        return clean + self.decay / 2 * torch.stack(squares).sum(), state
