"""Certificate: settings that are the certificate. It gives each image a radius and its guarantee."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

from robusteval.certify.refuting import stop_if_refuted
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, NormedMethod, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.behaviour import require_function
from robusteval.models.classifier import Classifier
from robusteval.models.plain import BATCH, as_classifier, as_images, clean_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

State = tuple[Statistic, ...]
"""What `prepare` learns from the set; it is written to the statistics table and read back from there."""


@dataclass(frozen=True)
class Radii:
    """radius (N,) in pixel units, rounded down; the class it speaks for (N,); whether it abstained (N,) bool.

    `measurements` are (quantity, at, values (N,)) kept as evidence, such as counts.
    """

    radius: Tensor
    predicted: Tensor
    abstained: Tensor
    measurements: tuple[tuple[str, float, Tensor], ...] = ()


LOOKED_AT = 8
"""Images by which it is decided whether a model's outputs are a function of the image."""


@dataclass(frozen=True, eq=False)
class CertificateResult:
    """Of N images: radius (N,) float64 in pixel units around the class `predicted` (N,), rounded down, 0 where nothing
    is certified; abstained (N,) bool; what the radii guarantee, of which classifier, with which probability of error.

    measurements: what was counted or measured for them, (N,) by quantity and place; statistics: of the whole set.
    """

    certificate: str
    guarantee: Guarantee
    subject: str
    alpha: float | None
    norm: Norm
    radius: Tensor
    predicted: Tensor
    abstained: Tensor
    measurements: dict[tuple[str, float], Tensor]
    statistics: State

    def __len__(self) -> int:
        return len(self.radius)

    def __repr__(self) -> str:
        above = int((self.radius > 0).sum())
        middle = f", median {float(self.radius.median()):.4g}" if len(self) else ""
        return f"CertificateResult({self.certificate} of {self.subject}: {above} of {len(self)} above 0{middle})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The share of images with at least each radius; see robusteval.plot_certificate."""
        from robusteval import plot_certificate

        return plot_certificate(self, ax)


class Certificate(NormedMethod):
    """A lower bound of the minimum adversarial distance of each image."""

    kind: ClassVar[Guarantee]

    def heading(self, source: str | None = None) -> str:
        return f"{self.title}{self.says} ({self.kind}), {self.norm.symbol}"

    @property
    def limit(self) -> float | None:
        """The radius beyond which it does not look; None for none."""
        return None

    @property
    def subject(self) -> str:
        """The classifier that the bound speaks of: "f", or "smooth(f, sigma)"."""
        return "f"

    @property
    def error_probability(self) -> float | None:
        """alpha: the probability with which a CONFIDENCE bound may be wrong, per image; None for other kinds."""
        return None

    def at_budgets(self, budgets: Sequence[float] | Mapping[str, float]) -> Self:
        """The same certificate, asked at the budgets of its protocol (all images', or by their ids) if it is set to be.
        Raises UserError where it is and there are none."""
        return self

    def asked_at(self, radii: Sequence[float]) -> Self:
        """The same certificate, asked whether these radii hold, where it can be."""
        return self

    def prepare(self, classifier: Classifier, images: Images, streams: Streams, step: Step) -> State:
        """Statistics of the whole set that `radii` needs. `streams` is one stream (N = 1) for the set; images
        come in the order of their ids, so that the order of the data changes nothing."""
        return ()

    @abstractmethod
    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """Radii of N images; 0 where nothing is certified."""

    def tried(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """`radii`, of which those that are a PROOF have been attacked (refuting.py): an audit takes them from here.
        Raises RefutedError where an attack breaks one."""
        found = self.radii(classifier, images, state, streams)
        if self.kind is Guarantee.PROOF:
            spoken = replace(images, labels=found.predicted.to(images.labels))
            radius = torch.where(found.abstained, 0.0, found.radius.double())
            stop_if_refuted(self.title, self.norm, classifier, spoken, radius, streams)
        return found

    def __call__(
        self,
        network: nn.Module | Classifier,
        pixels: Tensor,
        labels: Tensor,
        *,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> CertificateResult:
        """Certify images, outside an audit: network, pixels, labels and seed as in Attack.__call__.

        Bounds speak of functions of the image: a model with random outputs, or with outputs that depend on the batch,
        is refused. What the certificate learns from a whole set it learns from these images. Raises UserError in one
        line for a network that it cannot certify, RefutedError where an attack breaks a proof.
        """
        images = as_images(pixels, labels)
        classifier = as_classifier(network, images, batch_size)
        clean_predictions(classifier, images)
        require_function(classifier.metered(len(images)), images.pixels[:LOOKED_AT])
        of_set = Streams.for_set(seed, self.label, images.pixels)
        state = self.prepare(classifier.metered(len(images)), images, of_set, lambda done, total: None)
        streams = Streams.for_images(seed, self.label, images.ids, images.pixels)
        parts = [
            self.tried(classifier.select(rows), images.select(rows), state, streams.select(rows))
            for rows in torch.arange(len(images)).split(batch_size)
        ]
        columns = {
            (quantity, at): torch.cat([part.measurements[i][2] for part in parts])
            for i, (quantity, at, _) in enumerate(parts[0].measurements)
        }
        return CertificateResult(
            certificate=self.heading(),
            guarantee=self.kind,
            subject=self.subject,
            alpha=self.error_probability,
            norm=self.norm,
            radius=torch.cat([part.radius.double() for part in parts]),
            predicted=torch.cat([part.predicted for part in parts]),
            abstained=torch.cat([part.abstained for part in parts]),
            measurements=columns,
            statistics=state,
        )
