"""Networks small enough for two cores, for `--arch benchmarks/papers/networks.py:FUNCTION`."""

from __future__ import annotations

from torch import nn


def small_mnist() -> nn.Module:
    """Two strided convolutions and a hidden layer for 28x28 grey images: 167,000 weights."""
    return _small(1, 7)


def small_cifar10() -> nn.Module:
    """The same for 32x32 colour images: 215,000 weights."""
    return _small(3, 8)


def _small(channels: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * side * side, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
