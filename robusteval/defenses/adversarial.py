"""Adversarial training: cross-entropy on PGD examples (Madry et al. 2018; OpNorm Eq. 14 with lambda = 1)."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from robusteval.defenses.base import Defense
from robusteval.norms import Norm


class PGDTraining(Defense):
    """Every batch is replaced by what a few steps of PGD from a uniform start make of it."""

    name = "pgd-training"
    summary = "cross-entropy on PGD examples (Madry et al. 2018)"

    norm: Norm = Norm.LINF
    budget: PositiveFloat
    steps: PositiveInt = 7
    step: PositiveFloat = 0.25
    """Step size relative to the budget."""

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
