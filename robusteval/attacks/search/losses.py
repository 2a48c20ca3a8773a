"""What gradient attacks climb: losses of logits (N, K) that grow as an image is misclassified, (N,)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.attacks.search.active import keep
from robusteval.models.answers import answered


class Loss(StrEnum):
    CROSS_ENTROPY = "cross-entropy"
    MARGIN = "margin"
    """The largest other logit minus that of the label (Carlini & Wagner 2017, f_6)."""
    DLR = "dlr"
    """The margin over the spread of the largest logits: rescaling the logits changes nothing (Croce & Hein 2020)."""
    LOGITS_L1 = "logits-l1"
    LOGITS_L2 = "logits-l2"
    LOGITS_LINF = "logits-linf"
    """The l_q distance from the logits of the clean image (OpNorm, section 4.2)."""


LOGIT_ORDERS = {Loss.LOGITS_L1: 1.0, Loss.LOGITS_L2: 2.0, Loss.LOGITS_LINF: torch.inf}


@dataclass(frozen=True)
class Goal:
    """A loss away from `labels` (N,), or towards `targets` (N,) where they are given; the l_q losses measure from
    `clean` (N, K), the logits of the clean images."""

    loss: Loss
    labels: Tensor
    targets: Tensor | None = None
    clean: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The loss (N,) of logits (N, K)."""
        match self.loss:
            case Loss.CROSS_ENTROPY:
                return cross_entropy(logits, self.labels, self.targets)
            case Loss.MARGIN:
                return margin(logits, self.labels, self.targets)
            case Loss.DLR:
                return dlr(logits, self.labels, self.targets)
            case _:
                assert self.clean is not None
                distance: Tensor = torch.linalg.vector_norm(logits - self.clean, ord=LOGIT_ORDERS[self.loss], dim=1)
                return distance

    def select(self, rows: Tensor) -> Goal:
        return Goal(self.loss, *keep(rows, self.labels, self.targets, self.clean))


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Of the label, or minus that of the target."""
    if targets is None:
        return functional.cross_entropy(logits, labels, reduction="none")
    return -functional.cross_entropy(logits, targets, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The target's logit, or the largest but the label's, minus the label's: positive means misclassified. Logits that
    are not finite, which name no class, are as far from that as can be: minus infinity."""
    own = logits.gather(1, labels[:, None])
    if targets is not None:
        other = logits.gather(1, targets[:, None])
    else:
        other = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    return torch.where(answered(logits), (other - own)[:, 0], -torch.inf)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The difference of logits ratio (Croce & Hein 2020, Eqs. 6 and 7): the margin over z_1 - z_3, or, with a target,
    over z_1 - (z_3 + z_4) / 2, z_i the i-th largest logit.

    With fewer classes than that has, the margin itself takes its place.
    """
    difference = margin(logits, labels, targets)
    needed = 3 if targets is None else 4
    if logits.shape[1] < needed:
        return difference
    top = logits.topk(needed, dim=1).values
    third = top[:, 2] if targets is None else (top[:, 2] + top[:, 3]) / 2
    return difference / (top[:, 0] - third).clamp_min(torch.finfo(logits.dtype).tiny)
