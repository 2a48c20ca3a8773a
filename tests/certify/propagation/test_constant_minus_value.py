"""A value subtracted from a constant, as of a network that inverts its images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from certificate_cases import run
from oracles import affine, affine_distances, random_images
from robusteval.certify import CERTIFICATES
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier

WAYS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "number": lambda net, x: 1 - x,
    "buffer": lambda net, x: net.one - x,
    "function": lambda net, x: torch.sub(net.one, x),
}


class Inverting(nn.Module):
    """An affine network of the inverted image."""

    def __init__(self, network: nn.Module, way: str) -> None:
        super().__init__()
        self.network, self.invert = copy.deepcopy(network), WAYS[way]
        self.register_buffer("one", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.invert(self, x))
        return logits


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "norm"), [("ibp", "linf"), ("crown", "linf"), ("crown", "l2"), ("lipschitz", "l2")])
def test_the_inverted_image_has_the_radii_of_the_image(name: str, norm: str, way: str) -> None:
    """Up to the precision of the search for a radius, and what the rounding of one more layer is allowed."""
    plain, weight, bias = affine(1, classes=2)
    images = random_images(2, 10, plain)
    inverted = Images(images.ids, 1 - images.pixels, images.labels)
    certificate = CERTIFICATES[name].model_validate({"norm": norm})
    _, before = run(certificate, plain, images)
    _, after = run(certificate, make_classifier("inverting", Inverting(plain.module, way), plain.input_shape), inverted)
    assert (before.radius > 0).all()
    torch.testing.assert_close(after.radius, before.radius, rtol=0.01, atol=1e-6)
    exact = torch.from_numpy(affine_distances(weight, bias, images, Norm(norm)))
    assert (after.radius <= exact).all()


class Bent(nn.Module):
    """linear, c - h, ReLU, linear; or the same with the subtraction folded into the first layer."""

    def __init__(self, folded: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.c = nn.Linear(16, 12), nn.Linear(12, 3), 0.25
        self.folded = folded
        if folded:
            with torch.no_grad():
                self.first.bias.copy_(self.c - self.first.bias)
                self.first.weight.neg_()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        logits: Tensor = self.second(torch.relu(h if self.folded else self.c - h))
        return logits


@pytest.mark.parametrize("name", ["ibp", "crown"])
def test_between_layers_it_is_a_sign_and_a_shift(name: str) -> None:
    pixels = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    found = []
    for folded in (False, True):
        classifier = make_classifier("bent", Bent(folded), (1, 4, 4))
        images = Images(tuple(map(str, range(10))), pixels, classifier.predict(pixels).argmax(1))
        certificate = CERTIFICATES[name].model_validate({"norm": "linf"})
        found.append(run(certificate, classifier, images)[1].radius)
    assert (found[0] > 0).any()
    torch.testing.assert_close(*found, rtol=0.01, atol=1e-6)


class Over(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(1 / (1 + x.flatten(1)))
        return logits


def test_a_constant_over_a_value_is_refused_by_name() -> None:
    images = Images(("a",), torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.int64))
    classifier = make_classifier("over", Over(), (1, 2, 2))
    with pytest.raises(
        UnsupportedError, match=r"arithmetic with constants but c / x\), got a constant divided by a value"
    ):
        run(CERTIFICATES["ibp"].model_validate({"norm": "linf"}), classifier, images)
