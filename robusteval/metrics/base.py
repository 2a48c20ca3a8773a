"""Metric: settings that are the measurement of a model near each image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.methods import Method
from robusteval.streams import Streams


@dataclass(frozen=True)
class Measurement:
    """values (N,) of `quantity` at `at` (a sigma, a rank; 0 where it depends on nothing); NaN is no value."""

    quantity: str
    at: float
    values: Tensor


class Metric(Method):
    """Something measured for each image."""

    @property
    def witnesses_of(self) -> str | None:
        """The attack (its label in the protocol) whose closest witnesses are measured too; None for none."""
        return None

    @abstractmethod
    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        """Measurements of N images. `witnesses` (N, C, H, W) is NaN where the attack found none."""
