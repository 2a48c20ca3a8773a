"""The loss whose sign decides the class, and its gradient: what L-bound and omega-bound are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, K) and labels (N,) to l (N,); the network is right where l < l0 = 0."""


def margin_loss(
    logits: Tensor, labels: Tensor, scores: Literal["probabilities", "logits"] = "probabilities", top: int = 1
) -> Tensor:
    """l = max_{i != c} f_i - f_c, (N,) float64, with f the softmax of logits (N, K) or the logits, c the label.

    GradReg section 2.2 ("modified Carlini-Wagner loss") on the softmax, where l is in [-1, 1]; the network is right
    exactly where l < l0 = 0. With `top` = k the k-th largest of the others stands for the largest (footnote 1): then
    l < 0 exactly where the label is among the k most likely classes.
    """
    if top >= logits.shape[1]:
        raise UnsupportedError(f"expected top below the number of classes, {logits.shape[1]}, got {top}")
    f = logits.double() if scores == "logits" else logits.double().softmax(1)
    own = labels[:, None]
    return f.scatter(1, own, -torch.inf).topk(top).values[:, -1] - f.gather(1, own)[:, 0]


def loss_at(classifier: Classifier, pixels: Tensor, labels: Tensor, loss: LossFunction = margin_loss) -> Tensor:
    """l at images (M, C, H, W) without gradients, (M,) float64."""
    return loss(classifier.predict(pixels), labels)


def loss_gradient(
    classifier: Classifier, pixels: Tensor, labels: Tensor, loss: LossFunction = margin_loss
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Gradients of l (M, C, H, W), l (M,) and logits (M, K), in chunks of the classifier's batch size."""
    for x, c in zip(pixels.split(classifier.batch_size), labels.split(classifier.batch_size), strict=True):
        yield classifier.slope(x, lambda logits, c=c: loss(logits, c))  # type: ignore[misc]


@dataclass(frozen=True)
class Slopes:
    """At each of N images: margin = l0 - l, positive where the network is right; slope = the dual norm of the
    gradient of l, per pixel unit; both float64. predicted: the label where the network is right, else its class."""

    margin: Tensor
    slope: Tensor
    predicted: Tensor


def slopes(classifier: Classifier, images: Images, norm: Norm, loss: LossFunction = margin_loss) -> Slopes:
    """One gradient an image."""
    chunks = [
        (-value, norm.dual.size(gradient.double()), logits.argmax(1))
        for gradient, value, logits in loss_gradient(classifier, images.pixels, images.labels, loss)
    ]
    margin, slope, predicted = map(torch.cat, zip(*chunks, strict=True))
    return Slopes(margin, slope, torch.where(margin > 0, images.labels, predicted))


def rounded_down(radius: Tensor) -> Tensor:
    """The next smaller float64, and zero for what is not positive."""
    return torch.nextafter(radius.double(), torch.zeros_like(radius.double())).clamp_min(0)
