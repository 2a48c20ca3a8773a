"""Copies of images under Gaussian noise, no more than a batch of them at a time, and the classes named on them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robusteval.core.streams import Streams

BLOCK = 32
"""Copies of an image at a time: fixed, since it shapes the random numbers."""


def few(n: int, batch_size: int) -> tuple[Tensor, ...]:
    """The rows of n images, as many at a time as have a block of copies in a batch: at least one."""
    rows: tuple[Tensor, ...] = torch.arange(n).split(max(1, batch_size // BLOCK))
    return rows


def copies(pixels: Tensor, streams: Streams, sigma: float, draws: int, batch_size: int) -> Iterator[Tensor]:
    """`draws` copies x + N(0, sigma^2 I) of each of a few images x (N, C, H, W), (N, k, C, H, W) at a time.

    The noise is not clipped to [0, 1].
    """
    blocks = [min(BLOCK, draws - done) for done in range(0, draws, BLOCK)]
    # A batch of few images takes several blocks of each.
    together = max(1, batch_size // BLOCK // max(1, len(pixels)))
    for at in range(0, len(blocks), together):
        noise = torch.cat([streams.normal(block, *pixels.shape[1:]) for block in blocks[at : at + together]], dim=1)
        yield torch.add(pixels[:, None], noise, alpha=sigma, out=noise)


def named_classes(logits: Tensor) -> Tensor:
    """The class of the largest of each row (M, K), (M,) int64; -1 for nobody, where one is NaN or infinite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
