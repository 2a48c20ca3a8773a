"""What gradient attacks climb: losses of logits (N, K) that grow as a picture is misclassified, (N,)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.streams import Streams

Objective = Callable[[Tensor], Tensor]


class Loss(StrEnum):
    CROSS_ENTROPY = "cross-entropy"
    MARGIN = "margin"
    """The largest other logit minus that of the label (Carlini & Wagner 2017, f_6)."""


def objective(loss: Loss, labels: Tensor, targets: Tensor | None) -> Objective:
    """The loss away from `labels` (N,), or towards `targets` (N,) where they are given."""
    if loss is Loss.CROSS_ENTROPY:
        if targets is None:
            return lambda logits: functional.cross_entropy(logits, labels, reduction="none")
        return lambda logits: -functional.cross_entropy(logits, targets, reduction="none")
    return lambda logits: margin(logits, labels, targets)


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The target's logit, or the largest but the label's, minus the label's: positive means misclassified."""
    own = logits.gather(1, labels[:, None])
    if targets is not None:
        other = logits.gather(1, targets[:, None])
    else:
        other = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    return (other - own)[:, 0]


def random_targets(labels: Tensor, num_classes: int, streams: Streams) -> Tensor:
    """A class uniform among the wrong ones for each image, (N,)."""
    drawn = streams.integers(num_classes - 1)
    return drawn + (drawn >= labels)
