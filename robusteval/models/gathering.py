"""Gathering: a method that learns of a whole set by what it gathers of its images, some at a time."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Method, Step
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

Gathered = dict[str, Tensor]
"""What is known of some images, by name: small beside their pixels."""


class Gathering(Method):
    """A method of a whole set that looks at the images batch by batch: an audit has its workers do that, keeps what was
    gathered, and puts it together in the order of the images."""

    @abstractmethod
    def gather(self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams) -> Gathered:
        """What there is to know of N of the images, the same whichever others share their batch. `witnesses`
        (N, C, H, W) is NaN where the attack found none; `streams` is one an image."""

    def merged(self, one: Gathered, other: Gathered) -> Gathered:
        """What is known of two lots of images, of which the first come before the others by their ids: behind each
        other. To be the same to the last bit in whatever order lots are put together, so that nothing is added."""
        return {name: torch.cat([values, other[name]]) for name, values in one.items()}

    def each(self, of_set: Streams, images: Images) -> Streams:
        """The streams of some images, one each, that come from that of the set."""
        return Streams.for_images(of_set.seed, self.label, images.ids, images.pixels)

    def gathered(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, of_set: Streams, step: Step
    ) -> Gathered:
        """What there is to know of all images, gathered here in batches of the classifier."""
        found: Gathered | None = None
        for rows in torch.arange(len(images)).split(classifier.batch_size):
            some = images.select(rows).loaded()
            own = None if witnesses is None else witnesses[rows.to(witnesses.device)]
            known = self.gather(classifier.select(rows), some, own, self.each(of_set, some))
            found = known if found is None else self.merged(found, known)
            step(int(rows[-1]) + 1, len(images))
        assert found is not None
        return found
