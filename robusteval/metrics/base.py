"""Metric: settings that are a measurement of a model, near each image or over the whole set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.methods import Method, Statistic, Step
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.plain import BATCH, as_classifier, as_images, clean_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


@dataclass(frozen=True, eq=False)
class MetricResult:
    """What a metric measured: values (N,) of each image by quantity and place, NaN for none; numbers about the set by
    the same; arrays by name."""

    metric: str
    measurements: dict[tuple[str, float], Tensor]
    statistics: dict[tuple[str, float], float]
    arrays: Mapping[str, Tensor]

    def __repr__(self) -> str:
        names = dict.fromkeys(quantity for quantity, _ in (*self.measurements, *self.statistics))
        return f"MetricResult({self.metric}: {', '.join(names)})"

    def plot(self, quantity: str | None = None, ax: Axes | None = None) -> Axes:
        """One quantity, its mean over the images at each place; see robusteval.plot_metric."""
        from robusteval import plot_metric

        return plot_metric(self, quantity, ax)


class Metric(Method):
    """Something measured: an ImageMetric or a SetMetric."""

    @property
    def witnesses_of(self) -> str | None:
        """The attack (its label in the protocol) whose closest witnesses are measured too; None for none."""
        return None

    def __call__(
        self,
        network: nn.Module | Classifier,
        pixels: Tensor,
        labels: Tensor,
        witnesses: Tensor | None = None,
        *,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> MetricResult:
        """Measure images, outside an audit: network, pixels, labels and seed as in Attack.__call__; `witnesses`, for
        metrics of them, are adversarial examples (N, C, H, W), such as AttackResult.examples: NaN, or the image itself,
        where there is none. Raises UserError where they are missing, or are no images like these."""
        images = as_images(pixels, labels)
        if self.witnesses_of is not None and witnesses is None:
            raise UserError(f"expected adversarial examples as witnesses= for {self.name}, got none")
        classifier = as_classifier(network, images, batch_size)
        clean_predictions(classifier, images)
        own = None if witnesses is None else _perturbed(witnesses, images.pixels)
        return self.result(classifier, images, own, seed)

    @abstractmethod
    def result(self, classifier: Classifier, images: Images, witnesses: Tensor | None, seed: int) -> MetricResult:
        """What it measures of images outside an audit, batch by batch of the classifier."""


class ImageMetric(Metric):
    """Something measured for each image by itself, whichever others share its batch."""

    @abstractmethod
    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        """Measurements of N images. `witnesses` (N, C, H, W) is NaN where the attack found none. A measurement that is
        NaN for an image leaves no row in a run."""

    def result(self, classifier: Classifier, images: Images, witnesses: Tensor | None, seed: int) -> MetricResult:
        streams = Streams.for_images(seed, self.label, images.ids, images.pixels)
        columns: dict[tuple[str, float], Tensor] = {}
        for rows in torch.arange(len(images)).split(classifier.batch_size):
            own = None if witnesses is None else witnesses[rows]
            for m in self.measure(classifier.select(rows), images.select(rows), own, streams.select(rows)):
                empty = torch.full((len(images),), torch.nan, dtype=torch.float64, device=images.pixels.device)
                columns.setdefault((m.quantity, m.at), empty)[rows] = m.values.double()
        return MetricResult(self.heading(), columns, {}, {})


class SetMetric(Metric):
    """Something measured over the whole set of images, or of the model alone. One that looks at many images is better a
    GatheringMetric or a StreamedMetric (metrics/whole_set.py): what follows has all pixels in memory."""

    looks_at: ClassVar[int | None] = None
    """How many images it is given, the first ones by id; None for all."""

    @abstractmethod
    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        """What the whole set of N images shows, in the order of their ids. `witnesses` (N, C, H, W) is NaN where the
        attack found none; `streams` is one stream (N = 1) for the set. A measurement that is NaN for an image is not
        kept."""

    def result(self, classifier: Classifier, images: Images, witnesses: Tensor | None, seed: int) -> MetricResult:
        streams = Streams.for_set(seed, self.label, images.pixels)
        given = images if self.looks_at is None else images.first(self.looks_at)
        own = None if witnesses is None else witnesses[: len(given)]
        seen = self.observe(classifier, given, own, streams, lambda done, total: None)
        columns = {(m.quantity, m.at): m.values.double() for m in seen.measurements}
        statistics = {(s.quantity, s.at): s.value for s in seen.statistics}
        return MetricResult(self.heading(), columns, statistics, seen.arrays)


class AtWitnesses(Metric):
    """A metric that measures the closest witnesses of an attack."""

    witnesses: str | None = None
    """The label of that attack in the protocol; None to measure the images alone."""

    @property
    def witnesses_of(self) -> str | None:
        return self.witnesses


def _perturbed(witnesses: Tensor, pixels: Tensor) -> Tensor:
    """The witnesses, NaN where one is the image itself: there the attack failed, or the image was misclassified."""
    if not isinstance(witnesses, Tensor):
        raise UserError(
            f"expected witnesses as a tensor, such as .examples of an attack, got {type(witnesses).__name__}"
        )
    if witnesses.shape != pixels.shape:
        raise UserError(f"expected witnesses of shape {tuple(pixels.shape)}, got {tuple(witnesses.shape)}")
    own = witnesses.detach().to(pixels)
    if ((own < 0) | (own > 1)).any():
        raise UserError("expected witnesses with pixels in [0, 1], NaN where there is none, got others")
    return own.masked_fill((own == pixels).flatten(1).all(1)[:, None, None, None], torch.nan)
