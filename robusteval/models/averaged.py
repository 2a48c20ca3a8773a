"""Expectation over transformation: a random model as the mean of several of its evaluations.

Athalye et al. (2018), section 4: gradients and decisions are those of the expected output. Deviation: the mean is of
the softmax, and its logarithm is the logit, so that the class is that of the mean probability; the gradient is that of
the mean, not the mean of the gradients of a loss.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.models.classifier import Classifier


class Averaged(nn.Module):
    """log of the mean softmax over `draws` evaluations, one after another: a network may draw once for a batch."""

    def __init__(self, network: nn.Module, draws: int) -> None:
        super().__init__()
        self.network, self.draws = network, draws

    def forward(self, pixels: Tensor) -> Tensor:
        rows = torch.stack([self.network(pixels).log_softmax(1) for _ in range(self.draws)])
        return rows.logsumexp(0) - math.log(self.draws)

    def extra_repr(self) -> str:
        return f"draws={self.draws}"


def averaged(classifier: Classifier, draws: int) -> Classifier:
    """The same model with each evaluation averaged over `draws` of the network's; itself where draws is 1."""
    if draws == 1:
        return classifier
    return replace(classifier, module=Averaged(classifier.module, draws), averaged=draws)
