"""Squared gradient norm: input gradient regularization (GradReg, Eq. 8, proposition 3.2, algorithm 1)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, field_validator
from torch import Tensor, nn

from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch, Carried, Defense, loss_gradients, losses


class GradientRegularization(Defense):
    """CE + weight / 2 * mean R(x), R the squared size of the loss gradient in the pixels.

    For a defense in L2, R = |g|_2^2; in Linf, R = |g|_1^2 / N with N pixel values, as d = sign(g) / sqrt(N) has it.
    By finite differences (algorithm 1) R = ((l(x + h d) - l(x)) / h)^2 with d detached: two ordinary passes back. By
    double backpropagation R is exact. Where g = 0, d = 0. Reading: the paper has weight / 2 in Eq. 8 and weight in
    algorithm 1; the authors' public code halves it, and so does this.
    """

    name = "gradient-regularization"
    title = "Gradient regularization"
    summary = "squared L2 or L1 norm of the loss gradient, by finite differences or double backpropagation (GradReg)"

    norm: Norm = Norm.LINF
    """That the defense is for: l2 penalises the gradient's L2 norm, linf its L1 norm."""
    by: Literal["finite-differences", "double-backpropagation"] = "finite-differences"
    """How the gradient of the penalty is computed."""
    weight: NonNegativeFloat = 1.0
    """lambda; the paper takes 0.1 and 1."""
    h: PositiveFloat = 0.01
    """Length of the finite difference; the paper takes 0.01, and 0.1 for its best model."""

    @field_validator("norm")
    @classmethod
    def _known_norm(cls, norm: Norm) -> Norm:
        if norm not in (Norm.L2, Norm.LINF):
            raise ValueError("expected norm in l2, linf for gradient-regularization")
        return norm

    @property
    def says(self) -> str:
        way = f"FD, h = {self.h:g}" if self.by == "finite-differences" else "DBP"
        return f" {self.norm.dual.symbol} ({way}), lambda {self.weight:g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        penalised = self._differences if self.by == "finite-differences" else self._exact
        clean, penalty = penalised(network, batch)
        return clean.mean() + self.weight / 2 * penalty.mean(), state

    def _exact(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        clean, gradient = loss_gradients(network, batch.pixels, batch.labels)
        if self.norm is Norm.L2:
            return clean, gradient.flatten(1).square().sum(1)
        return clean, gradient.flatten(1).abs().sum(1).square() / gradient[0].numel()

    def _differences(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        x = batch.pixels.detach().requires_grad_()
        clean = losses(network(x), batch.labels)
        (gradient,) = torch.autograd.grad(clean.sum(), x, retain_graph=True)
        direction = self.norm.steepest(gradient)
        if self.norm is Norm.LINF:
            direction = direction / gradient[0].numel() ** 0.5
        moved = losses(network(batch.pixels + self.h * direction), batch.labels)
        return clean, ((moved - clean) / self.h).square()
