"""A proof is attacked before it is handed out: one that does not hold is refuted, one that holds is not."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from oracles import interior
from robusteval.certify.base import Certificate, Radii, State
from robusteval.certify.refuting import stop_if_refuted
from robusteval.core.errors import RefutedError
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


class Claimed(Certificate):
    """Proves `factor` times the distance to the wall of an affine network, which is known."""

    name: ClassVar[str] = "claimed"
    title: ClassVar[str] = "Claimed"
    summary: ClassVar[str] = "a multiple of the exact distance"
    kind: ClassVar[Guarantee] = Guarantee.PROOF
    exact: tuple[float, ...]
    factor: float

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        predicted = classifier.predict(images.pixels).argmax(1)
        radius = self.factor * torch.tensor(self.exact, dtype=torch.float64)[: len(images)]
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool))


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("factor", [1.05, 1.5, 4.0])
def test_a_radius_beyond_the_exact_distance_is_refuted(norm: Norm, factor: float) -> None:
    classifier, images, exact = interior(norm, 0)
    certificate = Claimed(norm=norm, exact=tuple(exact), factor=factor)
    with pytest.raises(RefutedError, match=rf"within {norm.symbol} .* of image \S+, which Claimed proves") as caught:
        certificate(classifier, images.pixels, images.labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("norm", BALLS)
def test_a_radius_up_to_the_exact_distance_is_not_refuted(norm: Norm) -> None:
    classifier, images, exact = interior(norm, 0)
    certificate = Claimed(norm=norm, exact=tuple(exact), factor=1 - 1e-6)
    result = certificate(classifier, images.pixels, images.labels)
    assert (result.radius > 0).any()
    # Nothing is tried where nothing is claimed, however wrong the class.
    nothing = Claimed(norm=norm, exact=tuple(exact), factor=0.0)
    assert not nothing(classifier, images.pixels, images.labels).radius.any()


class Hard(nn.Module):
    """Class 1 where the mean is above 0.6, by answers that have no gradient, or that are no numbers there."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.scale = way, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        height = (x.flatten(1).mean(1, keepdim=True) - 0.6) * self.scale
        if self.way == "detached":
            height = height.detach()
        if self.way == "in place":
            squared = height**2
            height += 0 * squared
        if self.way == "steps":
            height = height.sign()
        if self.way == "nan":
            height = torch.where(height > 0, torch.nan, height)
        return torch.cat([-height, height], 1)


@pytest.mark.parametrize("way", ["detached", "in place", "steps", "nan", "smooth"])
def test_networks_without_gradients_are_attacked_all_the_same(way: str) -> None:
    """Random corners alone reach the wall where all pixels count alike and the ball is wide."""
    classifier = make_classifier(way, Hard(way), (1, 2, 1))
    pixels = torch.full((40, 1, 2, 1), 0.55)
    images = Images(tuple(map(str, range(40))), pixels, torch.zeros(40, dtype=torch.int64))
    streams = Streams.for_images(0, way, images.ids, pixels)
    radius = torch.full((40,), 0.3, dtype=torch.float64)
    with pytest.raises(RefutedError, match="Claimed proves"):
        stop_if_refuted("Claimed", Norm.LINF, classifier.metered(40), images, radius, streams)
    stop_if_refuted("Claimed", Norm.LINF, classifier.metered(40), images, radius / 6.1, streams)


def test_what_is_tried_costs_little_and_is_counted() -> None:
    classifier = make_classifier("smooth", Hard("smooth"), (1, 2, 1))
    pixels = torch.full((5, 1, 2, 1), 0.3)
    images = Images(tuple("abcde"), pixels, torch.zeros(5, dtype=torch.int64))
    view = classifier.metered(5)
    radius = torch.tensor([0.1, 0.0, 0.1, 0.1, 0.1], dtype=torch.float64)
    stop_if_refuted("True", Norm.L2, view, images, radius, Streams.for_images(0, "cost", images.ids, pixels))
    assert view.meter.forwards[1] == 0
    assert (view.meter.forwards[2:] == 8).all()
    assert (view.meter.backwards[2:] == 4).all()
