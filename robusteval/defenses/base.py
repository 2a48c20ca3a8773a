"""Defense: settings that are a training objective."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from robusteval.core.methods import Method


class Defense(Method):
    """What a network is trained to minimise."""

    @abstractmethod
    def loss(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The mean loss of a batch: pixels (N, C, H, W) in [0, 1], labels (N,); differentiable in the weights."""
