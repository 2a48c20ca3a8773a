"""Data-dependent spectral norm regularization (OpNorm, Eq. 6 and 7)."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch, Carried, Defense, losses
from robusteval.defenses.power_method import Form, gain, maximisers


class SpectralNorm(Defense):
    """CE + weight / 2 * mean (eps sigma)^2, sigma the largest singular value of the logits' Jacobian at each image.

    The paper's preferred form takes |f(x + eps v) - f(x)|_2 for eps sigma, v the leading right singular vector; the
    other is u^T J v itself. With the paper's names weight is lambda and weight * eps^2 is lambda~.
    """

    name = "spectral-norm"
    title = "Data-dependent spectral norm"
    summary = "squared largest singular value of the Jacobian at each image (OpNorm, Eq. 7)"

    weight: NonNegativeFloat = 0.1
    """lambda, of the squared gain."""
    eps: PositiveFloat = 0.5
    """How far v is followed, in pixel units of L2."""
    iterations: PositiveInt = 10
    """Of the power method."""
    form: Form = "difference"
    """difference: f is evaluated at x + eps v; jacobian: double backpropagation."""

    @property
    def says(self) -> str:
        return f", lambda {self.weight:g}, eps {self.eps:g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        logits = network(batch.pixels)
        directions = maximisers(network, batch, Norm.L2, Norm.L2, self.iterations)
        gains = gain(network, batch, logits, directions, Norm.L2, self.eps, self.form)
        return losses(logits, batch.labels).mean() + self.weight / 2 * gains.square().mean(), state
