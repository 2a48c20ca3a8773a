"""No defense: cross-entropy on the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.defenses.base import Defense


class Standard(Defense):
    """Standard training."""

    name = "standard"
    title = "Standard training"
    summary = "cross-entropy on the images"

    def loss(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return functional.cross_entropy(network(pixels), labels)
