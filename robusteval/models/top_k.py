"""Top-k correctness as top-1 correctness: a network whose class is the label as long as that is among the k best."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.models.classifier import Classifier


class TopK(nn.Module):
    """The logits of a network without the k - 1 largest of the classes other than `label`, which get the smallest logit
    instead (no gradient flows through it).

    The largest logit is the label's exactly where the label is among the k largest of the network: an image of that
    label is misclassified here where it is not among the top k there. What attacks climb, losses and margins, is
    against the k-th other class, which is the one to overtake. For images of one label only.
    """

    def __init__(self, inner: nn.Module, k: int, label: int) -> None:
        super().__init__()
        self.inner, self.k, self.label = inner, k, label

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels)
        others = logits.detach().clone()
        others[:, self.label] = -torch.inf
        gone = others.topk(self.k - 1, dim=1).indices
        return logits.scatter(1, gone, logits.detach().amin(1, keepdim=True).expand(-1, self.k - 1))


def top_k(classifier: Classifier, k: int, label: int) -> Classifier:
    """A view of a classifier, for images of one label, that is right where the label is among its k best classes.
    Raises UserError where it has not more than k classes: it would always be right."""
    if k >= classifier.num_classes:
        raise UserError(f"expected top below {classifier.num_classes}, the classes of {classifier.name}, got {k}")
    return classifier if k == 1 else replace(classifier, module=TopK(classifier.module, k, label).eval())
