"""Adversarial training: cross-entropy on PGD examples (Madry et al. 2018; OpNorm Eq. 14 with lambda = 1)."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.norms import Norm
from robusteval.defenses.base import Defense


class PGDTraining(Defense):
    """Every batch is replaced by what a few steps of PGD from a random start make of it, the network in train mode.

    The start is uniform in the Linf ball; for L2 (a deviation) that cube's noise, projected on the ball.
    """

    name = "pgd-training"
    title = "PGD training"
    summary = "cross-entropy on PGD examples (Madry et al. 2018)"

    norm: Norm = Norm.LINF
    budget: PositiveFloat
    steps: PositiveInt = 7
    step: PositiveFloat = 0.25
    """Step size relative to the budget."""

    @field_validator("norm")
    @classmethod
    def _known_norm(cls, norm: Norm) -> Norm:
        if norm is Norm.L1:
            raise ValueError("expected norm in l2, linf for pgd-training")
        return norm

    def loss(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return functional.cross_entropy(network(self.perturbed(network, pixels, labels, generator)), labels)

    def perturbed(self, network: nn.Module, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """PGD examples (N, C, H, W), inside the ball and the box."""
        noise = torch.rand(pixels.shape, generator=generator).to(pixels) * 2 - 1
        x = self._inside(pixels, pixels + self.norm.project(self.budget * noise, self.budget))
        for _ in range(self.steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(functional.cross_entropy(network(x), labels), x)
            x = self._inside(pixels, x + self.step * self.budget * self.norm.steepest(gradient))
        return x.detach()

    def _inside(self, pixels: Tensor, x: Tensor) -> Tensor:
        return (pixels + self.norm.project(x - pixels, self.budget)).clamp(0, 1)
