"""What alignment is compared with."""

from __future__ import annotations

import math


def chance(dimensions: int) -> float:
    """The mean |cosine| of a direction at random with any fixed one: Gamma(D / 2) / (sqrt(pi) Gamma((D + 1) / 2))."""
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)
