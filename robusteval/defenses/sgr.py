"""SGR: structured gradient regularization (SGR, Eq. 11 and 12, algorithm 1)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from robusteval.core.methods import Radius
from robusteval.core.norms import Norm
from robusteval.defenses import second_moments
from robusteval.defenses.ascent import climbed
from robusteval.defenses.base import Batch, Carried, Defense, loss_gradients, losses

Source = Literal["gradients", "signs", "pgd", "lrc", "images", "identity"]
STEPS = 10
"""Of PGD, each of a fifth of the budget: SGR's table 2."""


class SGR(Defense):
    """CE + weight * Omega, Omega = 1/2 mean of g^T Sigma g, g the gradient of the cross-entropy of the true class.

    Sigma holds the raw second moments of perturbations, with a mean diagonal entry of one: a running average
    (Eq. 14) of those of each batch (loss gradients, their signs, or PGD's perturbations), or fixed: the long-range
    covariance of section 4.3 (`lrc`), that of the training images (`images`, their mean subtracted), or the identity,
    which is the paper's GN. The average begins with the identity. Sigma is a constant of each update: no gradient
    flows through it (the paper does not say). By double backpropagation.
    """

    name = "sgr"
    title = "SGR"
    summary = "structured gradient regularization: g^T Sigma g of the loss gradient (SGR, Eq. 11)"

    source: Source = "gradients"
    """Perturbations that Sigma comes from."""
    representation: Literal["functions", "matrix"] = "functions"
    """Sigma as covariance functions of the pixels' distance, or as the full matrix."""
    weight: NonNegativeFloat = 3.0
    """lambda; the paper takes 3 on MNIST and 0.005 on CIFAR-10 (GN: 10 and 0.025)."""
    beta: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the current batch in the running average."""
    every: PositiveInt = 1
    """Updates between two updates of Sigma."""
    zeta: PositiveFloat = 8.0
    """Decay length in pixels, of lrc."""
    budget: Radius = 8 / 255
    """Linf radius in pixel units, of pgd."""
    centred: bool = True
    """False adds the term of the perturbations' mean (Eq. 12)."""

    @property
    def says(self) -> str:
        source = f"lrc {self.zeta:g}" if self.source == "lrc" else self.source
        return f" (Sigma: {source}), lambda {self.weight:g}"

    def begin(self, network: nn.Module, pixels: Tensor, generator: torch.Generator) -> Carried:
        shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        match self.source:
            case "images":
                sigma = self._moments(pixels - pixels.mean(0))
            case "lrc":
                sigma = self._represented(second_moments.long_range_functions(shape, self.zeta), shape)
            case _:
                sigma = self._represented(second_moments.white(shape), shape)
        return {
            "sigma": sigma.to(pixels),
            "mean": torch.zeros_like(pixels[0]),
            "count": torch.zeros((), dtype=torch.int64),
        }

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean, g = loss_gradients(network, batch.pixels, batch.labels)
        state = self._averaged(network, batch, g.detach(), state)
        omega = 0.5 * (g * self.applied(state["sigma"], g)).flatten(1).sum(1)
        if not self.centred:
            # Eq. 12 in log phi_y = -l: minus the mean of grad log phi_y . mu is plus that of g . mu.
            omega = omega + (g * state["mean"]).flatten(1).sum(1)
        return clean.mean() + self.weight * omega.mean(), state

    def applied(self, sigma: Tensor, g: Tensor) -> Tensor:
        """Sigma g for images g (N, C, H, W)."""
        if self.representation == "matrix":
            return second_moments.apply_matrix(sigma, g)
        return second_moments.apply_functions(sigma, g)

    def _averaged(self, network: nn.Module, batch: Batch, g: Tensor, state: Carried) -> Carried:
        """Eq. 14: the state after this batch's perturbations."""
        count = int(state["count"])
        if self.source in ("lrc", "images", "identity") or count % self.every:
            return {**state, "count": state["count"] + 1}
        xi = self._perturbations(network, batch, g)
        scale = xi.square().mean().sqrt()
        if scale > 0:
            xi = xi / scale
        return {
            "sigma": (1 - self.beta) * state["sigma"] + self.beta * self._moments(xi),
            "mean": (1 - self.beta) * state["mean"] + self.beta * xi.mean(0),
            "count": state["count"] + 1,
        }

    def _perturbations(self, network: nn.Module, batch: Batch, g: Tensor) -> Tensor:
        if self.source == "gradients":
            return g
        if self.source == "signs":
            return g.sign()
        x = batch.pixels
        start = (x + self.budget * (2 * batch.uniform() - 1)).clamp(0, 1)

        def climb(logits: Tensor) -> Tensor:
            return losses(logits, batch.labels)

        return climbed(network, climb, x, start, Norm.LINF, self.budget, STEPS, self.budget / 5) - x

    def _moments(self, xi: Tensor) -> Tensor:
        return second_moments.matrix_of(xi) if self.representation == "matrix" else second_moments.functions_of(xi)

    def _represented(self, functions: Tensor, shape: second_moments.Shape) -> Tensor:
        return second_moments.expanded(functions, shape) if self.representation == "matrix" else functions
