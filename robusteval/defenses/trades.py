"""TRADES (Zhang et al. 2019), as SmoothKernels section 3 uses it."""

from __future__ import annotations

from functools import partial

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from robusteval.defenses.ascent import Adversarial
from robusteval.defenses.base import Batch, Carried, losses


class Trades(Adversarial):
    """CE(clean) + gamma * mean KL(softmax f(x), softmax f(x')), x' what raises that divergence inside the ball.

    gamma is 1 / lambda of TRADES. Deviation: the start is uniform in the ball, where TRADES adds noise of 0.001.
    """

    name = "trades"
    title = "TRADES"
    summary = "clean cross-entropy and the divergence of perturbed from clean softmax (Zhang et al. 2019)"

    gamma: NonNegativeFloat = 1.0
    """Weight of the divergence; SmoothKernels takes 0.1, 1 and 10."""
    steps: PositiveInt = 10
    """Of gradient ascent."""

    @property
    def says(self) -> str:
        return f", gamma {self.gamma:g}, budget {self.budget:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean = network(batch.pixels)
        moved = network(self.perturbed(network, batch, partial(divergence, clean.detach())))
        return losses(clean, batch.labels).mean() + self.gamma * divergence(clean, moved).mean(), state


def divergence(of: Tensor, approximated: Tensor) -> Tensor:
    """KL(softmax of, softmax approximated) of logits (N, K), (N,)."""
    logs = functional.log_softmax(approximated, dim=1), functional.log_softmax(of, dim=1)
    return functional.kl_div(*logs, reduction="none", log_target=True).sum(1)
