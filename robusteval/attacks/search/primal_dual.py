"""The primal-dual search of PDGD and PDPGD: descend on loss plus price times distance, while each image's price moves.

Matyasko & Chau (2021), "PDPGD: primal-dual proximal gradient descent adversarial attack", algorithms 1 and 2. The loss
is a softplus of the margin; the price of distance (the ratio of the paper's two dual variables) begins so low that an
image runs far past the boundary, grows by a factor while it is misclassified and falls by it while not. Deviations:

- The margin is divided by the spread of the logits of the image, and the price counts in slopes of that loss at the
  image (at least those of a margin lost on the way across the box): logits of any scale give the same path.
- The step, per pixel, falls geometrically from one of `FIRST_STEPS` to a share of the closest change found, at any size
  of the images; the price's factor grows where there are few steps; the price is not averaged over steps.
- Many steps are several searches of at least `SEARCH` each, as which basin is found is settled early; first steps are
  small in one and large in the next. Later ones begin `BEYOND` times as far out as the closest example, or, where there
  is none, at a random image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from robusteval.attacks.search.losses import margin
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column, flat
from robusteval.core.streams import Streams
from robusteval.models.answers import misclassified
from robusteval.models.classifier import Classifier

FIRST_STEPS, LAST_SHARE = (0.1, 0.3), 0.01
"""The first step, in pixel units, of one search after another, and the last one, over the closest example's typical
change."""
SPREAD = 0.1
"""The width of the softplus, over the spread of the logits."""
FIRST_PRICE, PRICES = 0.01, 1e6
"""The price at first, and by how much it may grow or fall."""
PRICE_PATH, PRICE_STEP, LAST_PRICE_STEP = 30.0, 0.1, 0.1
"""How far the logarithm of the price may go in a search, if each step of it were as large as the first, which has at
least `PRICE_STEP`; the last one, over the first."""
SEARCH = 240
BEYOND = 3.0


class Descent(Protocol):
    """How one search moves: it keeps what it averages."""

    def __call__(self, change: Tensor, gradient: Tensor, price: Tensor, step: Tensor) -> Tensor:
        """The next change (N, C, H, W), by steps (N,) against the gradient of the loss, at prices (N,)."""


@dataclass
class RunningMean:
    """A running mean of gradients, with its bias taken out."""

    value: Tensor
    kept: float = 0.9
    seen: int = 0

    @classmethod
    def begin(cls, like: Tensor) -> Self:
        return cls(torch.zeros_like(like))

    def take(self, gradient: Tensor) -> Tensor:
        """The mean of all gradients taken, this one included."""
        self.seen += 1
        self.value = self.value.lerp(gradient, 1 - self.kept)
        return self.value / (1 - self.kept**self.seen)


@dataclass
class RunningRoot(RunningMean):
    """The root of a running mean of squares, as Adam divides by (Kingma & Ba 2015); positive."""

    kept: float = 0.999

    def take(self, gradient: Tensor) -> Tensor:
        return super().take(gradient.square()).sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)


@dataclass(frozen=True)
class LossScale:
    """Of each image, (N,): the width of the loss in logits, and the slope of the loss that prices count in."""

    width: Tensor
    slope: Tensor

    @classmethod
    def of(cls, norm: Norm, images: Tensor, gradient: Tensor, logits: Tensor) -> Self:
        """By the margin's gradient and the logits at the images; of L0, which has no dual, by that of L1."""
        norm = Norm.L1 if norm is Norm.L0 else norm
        tiny = torch.finfo(logits.dtype).tiny
        width = SPREAD * (logits.amax(1) - logits.amin(1)).nan_to_num(1, 1, 1).clamp_min(tiny)
        across = norm.size(torch.maximum(images, 1 - images)).clamp_min(tiny)
        return cls(width, torch.maximum(norm.dual.size(gradient) / width / 2, 0.1 / (SPREAD * across)))


def search(
    classifier: Classifier,
    images: Images,
    streams: Streams,
    norm: Norm,
    steps: int,
    descent: Callable[[Tensor], Descent],
) -> Tensor:
    """The closest misclassified images (N, C, H, W) met in `steps` forwards and backwards, or the images themselves.
    `descent` begins a way of moving from images (N, C, H, W)."""
    centers = images.pixels
    best, distance = centers, torch.full_like(centers[:, 0, 0, 0], torch.inf)
    typical, scale = torch.ones_like(distance), None
    searches = max(1, steps // SEARCH)
    for number in range(searches):
        length = steps // searches + (number < steps % searches)
        x = centers if not number else _again(centers, best, distance, streams)
        first = FIRST_STEPS[number % len(FIRST_STEPS)]
        move, log_price = descent(centers), torch.full_like(distance, math.log(FIRST_PRICE))
        for i in range(length):
            gradient, value, logits = classifier.gradient(x, lambda logits: margin(logits, images.labels))
            scale = scale or LossScale.of(norm, centers, gradient, logits)
            wrong, change = misclassified(logits, images.labels), x - centers
            here = norm.size(change)
            closer = wrong & (here < distance)
            best, distance = torch.where(column(closer, x), x, best), torch.where(closer, here, distance)
            typical = torch.where(closer, _typical(change), typical)
            share = i / length
            last = LAST_SHARE * typical
            step = first * (last / first) ** share
            slope = torch.sigmoid(-value / scale.width) / scale.width / scale.slope
            x = (centers + move(change, -gradient * column(slope, x), log_price.exp(), step)).clamp(0, 1)
            pace = max(PRICE_STEP, PRICE_PATH / length) * (1 - share * (1 - LAST_PRICE_STEP))
            limit = math.log(PRICES)
            log_price = (log_price + torch.where(wrong, pace, -pace)).clamp(-limit, limit)
    return best


def _typical(change: Tensor) -> Tensor:
    """How large the changes (N, C, H, W) of an image are that make it up, (N,): their mean, weighted by themselves."""
    tiny = torch.finfo(change.dtype).tiny
    return (flat(change).square().sum(1) / flat(change).abs().sum(1).clamp_min(tiny)).clamp_min(1e-6)


def _again(centers: Tensor, best: Tensor, distance: Tensor, streams: Streams) -> Tensor:
    """Where the next search begins."""
    beyond = (centers + BEYOND * (best - centers)).clamp(0, 1)
    if distance.isfinite().all():
        return beyond
    return torch.where(column(distance.isfinite(), centers), beyond, streams.uniform(*centers.shape[1:]))
