"""Smooth kernels (SmoothKernels, section 3): the smoothness of convolutions added to one of four losses."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError
from robusteval.core.methods import Radius
from robusteval.core.norms import Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Batch, Carried, Defense
from robusteval.defenses.logit_pairing import LogitPairing
from robusteval.defenses.standard import Standard
from robusteval.defenses.trades import Trades

HIGHEST = 1.0
"""Of the exponent: a negative weight would lower its loss without end."""


class SmoothKernels(Defense):
    """The base's loss + weight * R, R the mean over the convolutions' kernels of exp(R0 - |w|^2).

    R0 is the sum over the neighbouring pairs of a kernel of (w_ij - w_hk)^2, each pair once. Bases: V (standard),
    T (TRADES), A (PGD training), L (logit pairing); a negative weight is the paper's control H, with rougher kernels.
    Readings: whether R is of each two-dimensional kernel or of a layer is not said; of a layer the exponent overflows
    at the usual initialisation, so R is the mean over all kernels above 1x1. The exponent stops at 1 (the paper says
    nothing), since the control's loss has no lower bound.
    """

    name = "smooth-kernels"
    title = "Smooth kernels"
    summary = "kernels' smoothness added to standard training, TRADES, PGD training or logit pairing (SmoothKernels)"

    base: Literal["V", "T", "A", "L"] = "V"
    """The loss that it is added to: V standard, T TRADES, A PGD training, L logit pairing."""
    weight: float = 100.0
    """lambda; the paper tries 0.01 to 100, and -100 for the control."""
    budget: Radius | None = None
    """Linf radius of T, A and L in pixel units."""
    gamma: NonNegativeFloat = 1.0
    """Of T and L."""
    steps: PositiveInt = 10
    """Of gradient ascent, of T, A and L."""

    @model_validator(mode="after")
    def _budget_where_needed(self) -> Self:
        if self.base != "V" and self.budget is None:
            raise ValueError(f"expected a budget for base {self.base}, got none")
        return self

    @property
    def says(self) -> str:
        return f" {self.base}{'R' if self.weight >= 0 else 'H'}, lambda {self.weight:g}"

    @cached_property
    def added_to(self) -> Defense:
        """The base, a defense of its own."""
        if self.base == "V" or self.budget is None:
            return Standard()
        if self.base == "A":
            return PGDTraining(norm=Norm.LINF, budget=self.budget, steps=self.steps)
        kind = Trades if self.base == "T" else LogitPairing
        return kind(norm=Norm.LINF, budget=self.budget, steps=self.steps, gamma=self.gamma)

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        loss, state = self.added_to.objective(network, batch, state)
        return loss + self.weight * roughness(network), state


def roughness(network: nn.Module) -> Tensor:
    """R, differentiable in the weights. Raises UnsupportedError where no kernel has neighbours."""
    kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
    if not kernels:
        raise UnsupportedError("expected a network with a torch.nn.Conv2d larger than 1x1 for smooth-kernels, got none")
    return torch.cat([exponents(w.flatten(0, 1)).clamp_max(HIGHEST).exp() for w in kernels]).mean()


def exponents(kernels: Tensor) -> Tensor:
    """R0 - |w|^2 of each kernel (M, k, l), (M,)."""
    down, right = kernels.diff(dim=1).square().sum((1, 2)), kernels.diff(dim=2).square().sum((1, 2))
    return down + right - kernels.square().sum((1, 2))
