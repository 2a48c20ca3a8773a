"""Metric: settings that are a measurement of a model, near each image or over the whole set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Method, Statistic, Step
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


@dataclass(frozen=True)
class Measurement:
    """values (N,) of `quantity` at `at` (a sigma, a rank; 0 where it depends on nothing); NaN is no value."""

    quantity: str
    at: float
    values: Tensor


@dataclass(frozen=True)
class Observation:
    """What a metric saw in the whole set: numbers about it, numbers about each of its N images, and images (C, H, W)
    or matrices by name, kept as evidence with the run."""

    statistics: Sequence[Statistic] = ()
    measurements: Sequence[Measurement] = ()
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


class Metric(Method):
    """Something measured: an ImageMetric or a SetMetric."""

    @property
    def witnesses_of(self) -> str | None:
        """The attack (its label in the protocol) whose closest witnesses are measured too; None for none."""
        return None


class ImageMetric(Metric):
    """Something measured for each image by itself, whichever others share its batch."""

    @abstractmethod
    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        """Measurements of N images. `witnesses` (N, C, H, W) is NaN where the attack found none."""


class SetMetric(Metric):
    """Something measured over the whole set of images, or of the model alone."""

    @abstractmethod
    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        """What the whole set of N images shows, in the order of their ids. `witnesses` (N, C, H, W) is NaN where the
        attack found none; `streams` is one stream (N = 1) for the set. A measurement that is NaN for an image is not
        kept."""


class AtWitnesses(Metric):
    """A metric that measures the closest witnesses of an attack."""

    witnesses: str | None = None
    """The label of that attack in the protocol; None to measure the images alone."""

    @property
    def witnesses_of(self) -> str | None:
        return self.witnesses
