"""TRADES (Zhang et al. 2019), as SmoothKernels section 3 uses it."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from robusteval.defenses.base import Batch, Carried, losses
from robusteval.defenses.pairing import Pairing, divergence


class Trades(Pairing):
    """CE(clean) + gamma * mean KL(softmax f(x), softmax f(x')), x' what raises that divergence inside the ball.

    gamma is 1 / lambda of TRADES. Deviation: the start is uniform in the ball, where TRADES adds noise of 0.001.
    """

    name = "trades"
    title = "TRADES"
    summary = "clean cross-entropy and the divergence of perturbed from clean softmax (Zhang et al. 2019)"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean = network(batch.pixels)
        moved = network(self.perturbed(network, batch, partial(divergence, clean.detach())))
        return losses(clean, batch.labels).mean() + self.gamma * divergence(clean, moved).mean(), state
