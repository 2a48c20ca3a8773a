"""Adversarial training: cross-entropy on PGD examples (Madry et al. 2018; GradReg, section 4).

There is no clean term. OpNorm's Eq. 14 has both: ascent_training.py.
"""

from __future__ import annotations

from torch import Tensor, nn

from robusteval.defenses.ascent import Adversarial
from robusteval.defenses.base import Batch, Carried, losses


class PGDTraining(Adversarial):
    """Every batch is replaced by what a few steps of PGD from a random start make of it: seven, as GradReg has it."""

    name = "pgd-training"
    title = "PGD training"
    summary = "cross-entropy on PGD examples (Madry et al. 2018; GradReg: 7 steps)"

    @property
    def says(self) -> str:
        return f", {self.norm.symbol} budget {self.budget:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        return losses(network(self.perturbed(network, batch)), batch.labels).mean(), state
