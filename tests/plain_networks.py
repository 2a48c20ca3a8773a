"""A plain network and plain tensors, for the tests of methods that are called on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (1, 5, 5)


def linear(classes: int = 5) -> nn.Sequential:
    """Affine, so that exact distances are known."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(25, classes))


def data(network: nn.Module, n: int = 6) -> tuple[Tensor, Tensor]:
    """Images, of which the last is labelled wrongly."""
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    y = network(x).argmax(1)
    y[-1] = (y[-1] + 1) % 5
    return x, y
