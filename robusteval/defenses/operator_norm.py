"""Data-dependent (p, q) operator norm regularization (OpNorm, Eq. 12 and 13)."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from robusteval.core.norms import BALLS, Norm
from robusteval.defenses.base import Batch, Carried, Defense, losses
from robusteval.defenses.power_method import Form, gain, maximisers


class OperatorNormRegularization(Defense):
    """CE + weight * mean eps |J|_{p,q}, the norm of the logits' Jacobian at each image that Eq. 8 defines.

    For (inf, 1), (inf, 2) and (2, 1), which are NP-hard, what the power method reaches: a lower estimate. With the
    paper's names weight * eps is lambda~.
    """

    name = "operator-norm"
    title = "Data-dependent operator norm"
    summary = "(p, q) operator norm of the Jacobian at each image, for p and q in 1, 2, inf (OpNorm, Eq. 13)"

    p: Norm = Norm.LINF
    """Norm of the pixels: l1, l2 or linf."""
    q: Norm = Norm.L1
    """Norm of the logits: l1, l2 or linf."""
    weight: NonNegativeFloat = 0.1
    """lambda, of the gain."""
    eps: PositiveFloat = 0.1
    """How far v is followed, in pixel units of p."""
    iterations: PositiveInt = 10
    """Of the power method."""
    form: Form = "difference"
    """difference: f is evaluated at x + eps v; jacobian: double backpropagation."""

    @field_validator("p", "q")
    @classmethod
    def _known_norm(cls, norm: Norm) -> Norm:
        if norm not in BALLS:
            raise ValueError("expected l1, l2 or linf")
        return norm

    @property
    def says(self) -> str:
        return f" ({self.p.symbol}, {self.q.symbol}), lambda {self.weight:g}, eps {self.eps:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        logits = network(batch.pixels)
        directions = maximisers(network, batch, self.p, self.q, self.iterations)
        gains = gain(network, batch, logits, directions, self.q, self.eps, self.form)
        return losses(logits, batch.labels).mean() + self.weight * gains.mean(), state
