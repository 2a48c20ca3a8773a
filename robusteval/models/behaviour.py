"""Whether a model is a function of the image alone: its outputs again, from the same seed, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier
from robusteval.models.serving import FixedBatch
from robusteval.models.tolerances import ALONE, RANDOM

VOTES = 21
"""Evaluations of an image by which the judge decides where outputs are random: odd, so that two classes never tie."""
_REPEATS = 4


@dataclass(frozen=True)
class Traits:
    """Whether a model's outputs are random, whether a seed brings them back, whether they depend on the other images
    of a batch, and whether it takes single images."""

    random: bool
    seedable: bool
    batch_dependent: bool
    single: bool

    @property
    def lacking(self) -> str:
        """Why the outputs are no function of the image alone; empty where they are, or can be made one by evaluating
        each image by itself."""
        if self.random:
            return "outputs that are random"
        return "outputs that depend on the other images of a batch" if self.batch_dependent and not self.single else ""

    @property
    def repeatable(self) -> bool:
        """Whether another can compute the outputs again."""
        return self.seedable if self.random else not self.lacking

    def served(self, classifier: Classifier) -> Classifier:
        """The classifier as an audit takes it: judged by several votes where its outputs are random, and one image at
        a time where they depend on the batch."""
        if self.random:
            return replace(classifier, votes=VOTES)
        if self.batch_dependent and self.single:
            return replace(classifier, module=FixedBatch(classifier.module, 1))
        return classifier


@dataclass(frozen=True)
class Behaviour:
    """Of N images, the largest change of a logit, relative to the largest logit, each (N,): when the same batch is
    evaluated again; again from the same random seed; and when the image is evaluated by itself, NaN where the model
    takes no single images."""

    again: Tensor
    seeded: Tensor
    alone: Tensor

    @property
    def traits(self) -> Traits:
        random = bool((self.again > RANDOM).any())
        return Traits(
            random=random,
            seedable=not bool((self.seeded > RANDOM).any()),
            batch_dependent=not random and bool((self.alone > ALONE).any()),
            single=not bool(self.alone.isnan().any()),
        )


def observe(classifier: Classifier, pixels: Tensor) -> Behaviour:
    """The behaviour on images (N, C, H, W). Evaluations that are not finite differ from nothing."""
    if len(pixels) == 1:
        # A negative for company: what depends on the batch must show.
        both = observe(classifier, torch.cat([pixels, 1 - pixels]))
        return Behaviour(both.again[:1], both.seeded[:1], both.alone[:1])
    with seeded(0, pixels):
        first = classifier.predict(pixels)
        again = torch.stack([_change(first, classifier.predict(pixels)) for _ in range(_REPEATS)]).amax(0)
    with seeded(0, pixels):
        same = _change(first, classifier.predict(pixels))
    return Behaviour(again, same, _alone(classifier, pixels, first))


def _alone(classifier: Classifier, pixels: Tensor, together: Tensor) -> Tensor:
    if isinstance(classifier.module, FixedBatch) and classifier.module.size == 1:
        return torch.zeros_like(together[:, 0])
    try:
        with torch.no_grad():
            rows = [classifier(pixel[None]) for pixel in pixels]
    except RuntimeError:
        return torch.full_like(together[:, 0], torch.nan)
    return _change(together, torch.cat(rows))


def require_function(classifier: Classifier, pixels: Tensor) -> None:
    """Raises UnsupportedError where the outputs on images (N, C, H, W) are none of the image alone: no bound can speak
    of them."""
    traits = observe(classifier, pixels).traits
    if traits.random or traits.batch_dependent:
        raise not_a_function(classifier.name, traits.lacking or "outputs that depend on the other images of a batch")


def not_a_function(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(
        f"expected a model whose outputs are a function of the image alone, got {name} with {found}"
    )


@contextmanager
def seeded(seed: int, like: Tensor) -> Iterator[None]:
    """Seed torch's global generators, which a model's own randomness draws from; afterwards all is as it was."""
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _change(first: Tensor, then: Tensor) -> Tensor:
    """The largest change of a logit of each image relative to the largest logit, (N,) float64."""
    scale = first.double().abs().amax(1).clamp_min(1e-12)
    return ((then.double() - first.double()).abs().amax(1) / scale).nan_to_num(0.0)
