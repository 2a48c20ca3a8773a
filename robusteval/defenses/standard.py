"""No defense: cross-entropy on the images."""

from __future__ import annotations

from torch import Tensor, nn

from robusteval.defenses.base import Batch, Carried, Defense, losses


class Standard(Defense):
    """Standard training."""

    name = "standard"
    title = "Standard training"
    summary = "cross-entropy on the images"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        return losses(network(batch.pixels), batch.labels).mean(), state
