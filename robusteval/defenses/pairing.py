"""What TRADES and logit pairing share: the softmax of an image and of its adversarial example held together."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from robusteval.defenses.ascent import Adversarial


class Pairing(Adversarial):
    """A defense with a divergence of the two, weighted by gamma."""

    gamma: NonNegativeFloat = 1.0
    """Weight of the divergence; SmoothKernels takes 0.1, 1 and 10."""
    steps: PositiveInt = 10
    """Of gradient ascent."""

    @property
    def says(self) -> str:
        return f", gamma {self.gamma:g}, {self.norm.symbol} budget {self.budget:.4g}"


def divergence(of: Tensor, approximated: Tensor) -> Tensor:
    """KL(softmax of, softmax approximated) of logits (N, K), (N,)."""
    logs = functional.log_softmax(approximated, dim=1), functional.log_softmax(of, dim=1)
    return functional.kl_div(*logs, reduction="none", log_target=True).sum(1)
