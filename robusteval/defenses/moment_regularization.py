"""The analytic moment regularizer (Moments, Eq. 2 and 3, theorem 1)."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError
from robusteval.defenses.base import Batch, Carried, Defense, losses, statistics_kept
from robusteval.defenses.mean_after_relu import MeanAfterRelu


class MomentRegularization(Defense):
    """CE(Phi(x)) + weight * CE(Omega(mu3)): mu3 is the exact mean of the first ReLU's output under Gaussian noise with
    a diagonal covariance, Omega the rest of the network. About the cost of two passes forward.

    The network has to begin with one linear or convolutional layer and a ReLU; normalisation and reshaping may come
    before. The mean of the network's output is Omega(mu3) only as far as Omega is linear around it (Eq. 3).
    """

    name = "moment-regularization"
    title = "Moment regularization"
    summary = "cross-entropy at the analytic mean after the first ReLU under Gaussian noise (Moments, Eq. 3)"

    sigma: PositiveFloat | tuple[PositiveFloat, ...] = 0.25
    """Standard deviation in pixel units, or one a channel; the paper takes 0.125 to 1."""
    weight: NonNegativeFloat = 1.0
    """alpha; the paper takes 0.5 to 20."""

    @property
    def says(self) -> str:
        sigma = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)
        return f", sigma {', '.join(f'{s:g}' for s in sigma)}, alpha {self.weight:g}"

    def begin(self, network: nn.Module, pixels: Tensor, generator: torch.Generator) -> Carried:
        if isinstance(self.sigma, tuple) and len(self.sigma) != pixels.shape[1]:
            raise UnsupportedError(
                f"expected sigma with {pixels.shape[1]} values, one a channel, got {len(self.sigma)}"
            )
        with torch.no_grad(), statistics_kept(network):
            self.smoothed(network, pixels[:2])
        return {}

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean = losses(network(batch.pixels), batch.labels).mean()
        smoothed = losses(self.smoothed(network, batch.pixels), batch.labels).mean()
        return clean + self.weight * smoothed, state

    def smoothed(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """Omega(mu3): logits (N, K)."""
        sigma = pixels.new_tensor(self.sigma).reshape(1, -1, 1, 1)
        with MeanAfterRelu(pixels, (sigma**2).expand_as(pixels)) as mean:
            logits: Tensor = network(pixels)
        if not mean.found:
            raise UnsupportedError("expected a network that begins with an affine layer and a ReLU, got no ReLU")
        return logits
