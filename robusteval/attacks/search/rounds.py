"""Rounds: a search for the closest misclassified image begins at the image itself, and then at random images.

Where a model resists, most of its units may be off around an image: the gradient there shows few pixels, and whoever
follows it outwards meets a far part of the boundary and stays there, however many steps are left. From a random image,
far inside the misclassified region, the way back ends elsewhere, often much closer; where the model does not resist,
the first round is the better one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.norms import column
from robusteval.core.streams import Streams

SHORT = 32
"""Of fewer steps than two of these there is one round; the number of rounds and their length grow alike."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From images (N, C, H, W) and in so many steps: the closest misclassified iterates and their distances (N,), infinite
where there are none."""


def lengths(steps: int) -> list[int]:
    """How steps are shared out among rounds."""
    count = max(1, round(math.sqrt(steps / SHORT)))
    return [steps // count + (i < steps % count) for i in range(count)]


def in_rounds(search: Search, images: Images, steps: int, streams: Streams) -> Tensor:
    """The closest of what the search finds in rounds of `steps` in all, (N, C, H, W), the images where it finds
    nothing: the first from the images themselves, each other from images with pixels uniform in [0, 1]."""
    best, distance = images.pixels, torch.full_like(images.pixels[:, 0, 0, 0], torch.inf)
    for number, length in enumerate(lengths(steps)):
        start = streams.uniform(*images.pixels.shape[1:]) if number else images.pixels
        found, size = search(start, length)
        closer = size < distance
        best, distance = torch.where(column(closer, best), found, best), torch.where(closer, size, distance)
    return best
