"""The worst of many random images: what noise attacks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.ball import Ball
from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

BLOCK = 10
"""Images drawn and evaluated at a time for each image; fixed, so that the draws depend on nothing else."""

Draw = Callable[[Streams, int], Tensor]
"""(streams of N images, k) -> perturbations (N, k, C, H, W) in the unit ball."""


def worst_of(classifier: Classifier, images: Images, ball: Ball, draw: Draw, samples: int, streams: Streams) -> Tensor:
    """Of `samples` draws, scaled to the radius and brought into the ball, the one with the largest margin
    (N, C, H, W). An image leaves with the block in which it was fooled."""
    best = images.pixels.clone()
    highest = torch.full((len(images),), -torch.inf, device=best.device, dtype=best.dtype)
    rows = torch.arange(len(images), device=best.device)
    for done in range(0, samples, BLOCK):
        k = min(BLOCK, samples - done)
        view, own, labels, stream = keep(rows, classifier, ball, images.labels, streams)
        candidates = torch.stack(
            [own.nearest(own.centers + own.step(1.0, v)) for v in draw(stream, k).unbind(1)], dim=1
        )
        logits = view.predict(candidates.flatten(0, 1))
        top, at = margin(logits, labels.repeat_interleave(k)).view(len(rows), k).max(1)
        better = top > highest[rows]
        chosen = rows[better]
        best[chosen] = candidates[better, at[better]]
        highest[chosen] = top[better]
        rows = rows[highest[rows] <= 0]
        if not len(rows):
            break
    return best
