"""The worst of many random images: what noise attacks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

BLOCK = 10
"""Images drawn and evaluated at a time for each image; fixed, so that the draws depend on nothing else."""

Draw = Callable[[Streams, int], Tensor]
"""(streams of N images, k) -> perturbations (N, k, C, H, W) before `Around.moved`."""


class Around(Protocol):
    """Where N images are moved to by draws."""

    def moved(self, perturbation: Tensor) -> Tensor:
        """The images moved by one draw each (N, C, H, W), within the box."""

    def select(self, rows: Tensor) -> Self:
        """The same of some of the images."""


def worst_of(
    classifier: Classifier, images: Images, around: Around, draw: Draw, samples: int, streams: Streams
) -> Tensor:
    """Of the images moved by `samples` draws, the one with the largest margin (N, C, H, W). An image leaves with the
    block in which it was fooled. A draw with an answer that is not finite is passed over."""
    best = images.pixels.clone()
    highest = torch.full((len(images),), -torch.inf, device=best.device, dtype=best.dtype)
    rows = torch.arange(len(images), device=best.device)
    for done in range(0, samples, BLOCK):
        k = min(BLOCK, samples - done)
        view, own, labels, stream = keep(rows, classifier, around, images.labels, streams)
        candidates = torch.stack([own.moved(v) for v in draw(stream, k).unbind(1)], dim=1)
        logits = view.predict(candidates.flatten(0, 1))
        margins = margin(logits, labels.repeat_interleave(k)).where(logits.isfinite().all(1), -torch.inf)
        top, at = margins.view(len(rows), k).max(1)
        better = top > highest[rows]
        chosen = rows[better]
        best[chosen] = candidates[better, at[better]]
        highest[chosen] = top[better]
        rows = rows[highest[rows] <= 0]
        if not len(rows):
            break
    return best
