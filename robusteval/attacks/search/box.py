"""The box [0, 1] of the pixels, as a search meets it."""

from __future__ import annotations

from torch import Tensor


def free(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient at images x without the entries along which the box lets no step be made, both (N, C, H, W)."""
    return gradient * ((x + gradient.sign()).clamp(0, 1) != x)
