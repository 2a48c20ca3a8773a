"""The classes that targeted attacks move towards."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from robusteval.core.errors import UnsupportedError
from robusteval.core.streams import Streams


class Target(StrEnum):
    RANDOM = "random"
    SECOND_BEST = "second-best"
    LEAST_LIKELY = "least-likely"


def choose(target: Target | int, labels: Tensor, num_classes: int, clean: Tensor | None, streams: Streams) -> Tensor:
    """A class other than its label for each image, (N,); `clean` (N, K) are the logits that a ranking needs.

    A given class is no target for the images that belong to it: these take the next one.
    """
    if target is Target.RANDOM:
        return random_targets(labels, num_classes, streams)
    if isinstance(target, Target):
        assert clean is not None
        least = target is Target.LEAST_LIKELY
        others = clean.scatter(1, labels[:, None], torch.inf if least else -torch.inf)
        return others.argmin(1) if least else others.argmax(1)
    if target >= num_classes:
        raise UnsupportedError(f"expected a target below {num_classes}, the number of classes, got {target}")
    given = torch.full_like(labels, target)
    return torch.where(given == labels, (given + 1) % num_classes, given)


def random_targets(labels: Tensor, num_classes: int, streams: Streams) -> Tensor:
    """A class uniform among the wrong ones for each image, (N,)."""
    drawn = streams.integers(num_classes - 1)
    return drawn + (drawn >= labels)


def likeliest(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """The k most likely wrong classes of each image, the likeliest first, (N, min(k, K - 1))."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(k, logits.shape[1] - 1), dim=1).indices
