"""Whether a model is a function of the image alone: its outputs again, from the same seed, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.core.errors import UnsupportedError
from robusteval.core.memory import is_out_of_memory
from robusteval.models.classifier import Classifier
from robusteval.models.serving import FixedBatch
from robusteval.models.tolerances import ALONE, RANDOM

VOTES = 21
"""Evaluations of an image by which the judge decides where outputs are random: odd, so that two classes never tie."""
_REPEATS = 4
_ROUNDINGS = 16
"""Ours. Units in the last place by which a sum may differ that is done again, on an accelerator in another order."""


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
    """Of N images, the largest change of a logit, relative to its size (`sizes`), each (N,): when the same batch is
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

    def with_those(self, other: Behaviour) -> Behaviour:
        """The larger changes of the same images seen twice."""
        pairs = ((self.again, other.again), (self.seeded, other.seeded), (self.alone, other.alone))
        return Behaviour(*(torch.maximum(one, two) for one, two in pairs))


def observe(classifier: Classifier, pixels: Tensor) -> Behaviour:
    """The behaviour on images (N, C, H, W). Evaluations that are not finite differ from nothing."""
    if len(pixels) == 1:
        # A negative for company: what depends on the batch must show.
        both = observe(classifier, torch.cat([pixels, 1 - pixels]))
        return Behaviour(both.again[:1], both.seeded[:1], both.alone[:1])
    with seeded(0, pixels):
        first = classifier.predict(pixels)
        again = torch.stack([_repeated(first, classifier.predict(pixels)) for _ in range(_REPEATS)]).amax(0)
    with seeded(0, pixels):
        same = _repeated(first, classifier.predict(pixels))
    return Behaviour(again, same, _alone(classifier, pixels, first))


def _alone(classifier: Classifier, pixels: Tensor, together: Tensor) -> Tensor:
    if isinstance(classifier.module, FixedBatch) and classifier.module.size == 1:
        return torch.zeros_like(together[:, 0])
    try:
        with torch.no_grad():
            rows = [classifier(pixel[None]) for pixel in pixels]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
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


def sizes(logits: Tensor) -> Tensor:
    """What changes of logits (N, K) are relative to, (N, K) float64: each one's own size or that of the two highest,
    which decide; a huge negative one, which masks a class, makes no change of the others small."""
    own = logits.double()
    decisive = own.topk(2, dim=1).values.abs().amax(1, keepdim=True)
    return torch.maximum(own.abs(), decisive).clamp_min(1e-12)


def _change(first: Tensor, then: Tensor) -> Tensor:
    """The largest change of a logit of each image, relative to its size, (N,) float64."""
    return ((then.double() - first.double()).abs() / sizes(first)).amax(1).nan_to_num(0.0)


def _repeated(first: Tensor, then: Tensor) -> Tensor:
    """The same of the same batch, or, where that is more, relative to the median lead of the highest logit, which an
    offset of all logits leaves as it is; that beyond a few roundings, as only those are in the same sum done again."""
    size = sizes(first)
    rounding = _ROUNDINGS * torch.finfo(first.dtype).eps * size
    lead = first.double().topk(2, dim=1).values.diff(dim=1).abs().median().clamp_min(1e-12)
    beyond = ((then.double() - first.double()).abs() - rounding).clamp_min(0).amax(1) / lead
    return torch.maximum(_change(first, then), beyond.nan_to_num(0.0))
