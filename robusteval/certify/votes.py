"""The votes behind randomized smoothing: which classes f names on noisy copies of each image."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.streams import Streams

BLOCK = 32
"""Copies of an image at a time: fixed, since it shapes the random numbers."""


def votes(classifier: Classifier, pixels: Tensor, streams: Streams, sigma: float, draws: int) -> Tensor:
    """How often f names each class on `draws` copies of each image x (N, C, H, W), x + N(0, sigma^2 I), (N, K) int64.

    No more than a batch of copies is held at a time, whatever N is. The noise is not clipped to [0, 1].
    """
    counts = torch.zeros(len(pixels), classifier.num_classes, dtype=torch.int64, device=pixels.device)
    size = max(1, classifier.batch_size // BLOCK)
    groups = zip(torch.arange(len(pixels)).split(size), pixels.split(size), counts.split(size), strict=True)
    for rows, x, counted in groups:
        view, own = classifier.select(rows), streams.select(rows)
        # A batch of few images takes several blocks of each.
        blocks = [min(BLOCK, draws - done) for done in range(0, draws, BLOCK)]
        together = max(1, size // max(1, len(rows)))
        for at in range(0, len(blocks), together):
            noise = torch.cat([own.normal(block, *x.shape[1:]) for block in blocks[at : at + together]], dim=1)
            noisy = torch.add(x[:, None], noise, alpha=sigma, out=noise)
            named = view.predict(noisy.flatten(0, 1)).argmax(1).view(len(rows), -1)
            counted.scatter_add_(1, named, torch.ones_like(named))
    return counts
