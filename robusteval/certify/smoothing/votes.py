"""The votes behind randomized smoothing: which classes f names on noisy copies of each image."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.numerics.noise import copies, few, named_classes


def votes(classifier: Classifier, pixels: Tensor, streams: Streams, sigma: float, draws: int) -> Tensor:
    """How often f names each class on `draws` copies of each image x (N, C, H, W), x + N(0, sigma^2 I), (N, K) int64.

    An answer that is not finite is a vote for nobody: a row sums to `draws` less these. No more than a batch of copies
    is held at a time, whatever N is. The noise is not clipped to [0, 1].
    """
    counts = torch.zeros(len(pixels), classifier.num_classes, dtype=torch.int64, device=pixels.device)
    for rows in few(len(pixels), classifier.batch_size):
        view, counted = classifier.select(rows), counts[rows]
        for noisy in copies(pixels[rows], streams.select(rows), sigma, draws, classifier.batch_size):
            named = named_classes(view.predict(noisy.flatten(0, 1))).view(len(rows), -1)
            counted.scatter_add_(1, named.clamp_min(0), (named >= 0).long())
        counts[rows] = counted
    return counts
