"""Adversarial training as OpNorm has it: the clean loss and an adversarial loss (Eq. 14 to 18)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from robusteval.core.norms import BALLS, Norm
from robusteval.defenses.ascent import Adversarial
from robusteval.defenses.base import Batch, Carried, losses


class AdversarialTraining(Adversarial):
    """CE(clean) + weight * mean of the adversarial loss at x*, which projected gradient ascent raises (Eq. 17).

    The loss is the cross-entropy, or |f(x) - f(x*)|_q of the logits; `powered` takes its q-th power over q, as the
    paper notes after Eq. 13. For the logit loss, a large step and a small budget this is operator norm regularization
    (theorem 1).
    """

    name = "adversarial-training"
    title = "Adversarial training"
    summary = "clean cross-entropy and an adversarial loss: cross-entropy or l_q of the logits (OpNorm, Eq. 14)"

    loss: Literal["cross-entropy", "logits"] = "cross-entropy"
    """The adversarial loss."""
    q: Norm = Norm.L2
    """Norm of the logits' difference: l1, l2 or linf."""
    powered: bool = False
    """The q-th power of that norm, over q."""
    weight: NonNegativeFloat = 1.0
    """lambda, of the adversarial loss."""
    steps: PositiveInt = 10
    """Of projected gradient ascent."""

    @field_validator("q")
    @classmethod
    def _known_q(cls, q: Norm) -> Norm:
        if q not in BALLS:
            raise ValueError("expected l1, l2 or linf")
        return q

    @model_validator(mode="after")
    def _finite_power(self) -> Self:
        if self.powered and self.q is Norm.LINF:
            raise ValueError("expected q in l1, l2 for powered, got linf")
        return self

    @property
    def says(self) -> str:
        loss = "cross-entropy" if self.loss == "cross-entropy" else f"{self.q.symbol} of logits"
        return f" ({loss}), lambda {self.weight:g}, {self.norm.symbol} budget {self.budget:.4g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        logits = network(batch.pixels)
        fixed = logits.detach()
        x = self.perturbed(network, batch, lambda moved: self._adversarial(fixed, moved, batch.labels))
        adversarial = self._adversarial(logits, network(x), batch.labels)
        return losses(logits, batch.labels).mean() + self.weight * adversarial.mean(), state

    def _adversarial(self, clean: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
        """The adversarial loss of each image, (N,)."""
        if self.loss == "cross-entropy":
            return losses(moved, labels)
        distance = self.q.size(moved - clean)
        return distance.pow(self.q.p) / self.q.p if self.powered else distance
