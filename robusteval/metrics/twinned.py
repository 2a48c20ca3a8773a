"""What the metrics of the Jacobian's spectrum share: of which map, how many ranks, and the random twin beside it."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from robusteval.metrics.base import ImageMetric
from robusteval.metrics.climbed import AtPerturbed
from robusteval.metrics.random_twin import random_twin
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import Of


class Twinned(AtPerturbed, ImageMetric):
    """A metric by rank of the Jacobian's singular values, of a network and of the same one with random weights."""

    of: Of = "features"
    """The penultimate features, as in the paper, or the logits."""
    ranks: PositiveInt | None = 20
    """How many of the leading ranks are kept; None for all."""
    twin: bool = True
    """Whether the network with random weights is measured, too."""
    twin_seed: NonNegativeInt = 0
    """What its weights are drawn from."""

    @property
    def says(self) -> str:
        return f" of the {self.of}"

    def networks(self, classifier: Classifier, quantity: str) -> dict[str, Classifier]:
        """The network by `quantity`, and its twin, if it is measured, by that name with `_twin`."""
        twins = {f"{quantity}_twin": random_twin(classifier, self.twin_seed)} if self.twin else {}
        return {quantity: classifier} | twins
