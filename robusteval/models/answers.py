"""What counts as an answer of a classifier: a row of finite logits. A row that is not finite names no class, so it
neither fools nor is right."""

from __future__ import annotations

from torch import Tensor


def answered(logits: Tensor) -> Tensor:
    """Which rows of logits (N, K) are finite, (N,) bool."""
    return logits.isfinite().all(1)


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows of logits (N, K) name another class than the labels (N,), (N,) bool."""
    return (logits.argmax(1) != labels) & answered(logits)
