"""Evaluations of a model, forward and backward, as a plan counts them before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

USUAL = 4
"""Steps, as a plan counts them, of what stops at the nearest boundary, which is a few steps away."""


@dataclass(frozen=True)
class Passes:
    """Image evaluations, forward and backward."""

    forward: float = 0.0
    backward: float = 0.0

    @classmethod
    def both(cls, count: float) -> Passes:
        """So many gradients: a forward and a backward each."""
        return cls(count, count)

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: float) -> Passes:
        return Passes(self.forward * times, self.backward * times)
