"""Metrics of a whole set that never have all its pixels in memory: by what is gathered of each batch, or by reading."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation, SetMetric
from robusteval.models.classifier import Classifier
from robusteval.models.gathering import Gathered, Gathering


class GatheringMetric(Gathering, SetMetric):
    """Of what is gathered batch by batch (models/gathering.py), which the workers of an audit share."""

    @abstractmethod
    def conclude(self, classifier: Classifier, gathered: Gathered, streams: Streams, step: Step) -> Observation:
        """What that shows. Measurements are of all N images in the order of their ids; `streams` is one stream
        (N = 1) for the set."""

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        return self.conclude(classifier, self.gathered(classifier, images, witnesses, streams, step), streams, step)


class StreamedMetric(SetMetric):
    """Of the images and the witnesses of an attack, without the model. They are read as they lie, some at a time, by
    the process that reads and writes the run."""

    @abstractmethod
    def seen(self, images: Images, witnesses: Images, step: Step) -> Observation:
        """What the set of N images shows, in the order of their ids. `witnesses` are as many, NaN where the attack
        found none; both are read each time that their pixels are asked for."""

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        assert witnesses is not None
        return self.seen(images, replace(images, content=witnesses), step)
