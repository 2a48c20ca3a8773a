"""Certificate: settings that are the certificate. It gives each image a radius and its guarantee."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Guarantee, NormedMethod, Statistic, Step
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

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

    def prepare(self, classifier: Classifier, images: Images, streams: Streams, step: Step) -> State:
        """Statistics of the whole set that `radii` needs. `streams` is one stream (N = 1) for the set; images
        come in the order of their ids, so that the order of the data changes nothing."""
        return ()

    @abstractmethod
    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """Radii of N images; 0 where nothing is certified."""
