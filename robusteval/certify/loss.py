"""The loss whose sign decides the class, and its gradient: what L-bound and omega-bound are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.norms import Norm


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """l = max_{i != c} p_i - p_c, (N,) float64 in [-1, 1], with p the softmax of logits (N, K), c the label.

    GradReg section 2.2 ("modified Carlini-Wagner loss"); the network is right exactly where l < l0 = 0.
    """
    p = logits.double().softmax(1)
    own = labels[:, None]
    return p.scatter(1, own, -torch.inf).max(1).values - p.gather(1, own)[:, 0]


def loss_at(classifier: Classifier, pixels: Tensor, labels: Tensor) -> Tensor:
    """l at pictures (M, C, H, W) without gradients, (M,) float64."""
    return margin_loss(classifier.predict(pixels), labels)


def loss_gradient(classifier: Classifier, images: Images) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Gradients of l (M, C, H, W), l (M,) and logits (M, K), in chunks of the classifier's batch size."""
    chunks = zip(images.pixels.split(classifier.batch_size), images.labels.split(classifier.batch_size), strict=True)
    for pixels, labels in chunks:
        yield classifier.gradient(pixels, lambda logits, c=labels: margin_loss(logits, c))  # type: ignore[misc]


@dataclass(frozen=True)
class Slopes:
    """At each of N images: margin = l0 - l, positive where the network is right; slope = the dual norm of the
    gradient of l, per pixel unit; both float64. predicted: the class of the network."""

    margin: Tensor
    slope: Tensor
    predicted: Tensor


def slopes(classifier: Classifier, images: Images, norm: Norm) -> Slopes:
    """One gradient an image."""
    chunks = [
        (-value, norm.dual.size(gradient.double()), logits.argmax(1))
        for gradient, value, logits in loss_gradient(classifier, images)
    ]
    return Slopes(*map(torch.cat, zip(*chunks, strict=True)))


def rounded_down(radius: Tensor) -> Tensor:
    """The next smaller float64, and zero for what is not positive."""
    return torch.nextafter(radius.double(), torch.zeros_like(radius.double())).clamp_min(0)
