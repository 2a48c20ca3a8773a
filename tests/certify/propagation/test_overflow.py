"""No proof where the network overflows, and windows that see nothing but padding are layers like others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from propagating import F64, evaluated, images_for, proven
from robusteval.certify.propagation.trace import trace
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)
PROVERS = ("ibp", "crown", "lipschitz")


def dense(*weights: float, bias: float = 0.0) -> nn.Sequential:
    """Layers whose weights are all equal; class 0 wins by its bias, until logits are infinite or no number."""
    layers: list[nn.Module] = [nn.Flatten()]
    for k, weight in enumerate(weights):
        last = k == len(weights) - 1
        layer = nn.Linear(16 if k == 0 else 8, 3 if last else 8)
        nn.init.constant_(layer.weight, weight)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.bias[0] = bias if last else 0.0
        layers += [layer] if last else [layer, nn.ReLU()]
    return nn.Sequential(*layers)


class Scaled(nn.Module):
    """A network whose first logit is another number of times as large."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flatten, self.linear, self.last, self.change = nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3), change

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.change(self.linear(self.flatten(x)).relu()))
        return logits


def _one_class(weight: float) -> nn.Sequential:
    network = dense(1.0, 1.0)
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight[0] = weight
    return network


def _normed(variance: float) -> nn.Sequential:
    layer = nn.BatchNorm1d(8, eps=1e-45)
    with torch.no_grad():
        assert layer.running_var is not None
        layer.running_var.fill_(variance)
        layer.weight.fill_(3e33)
    network = dense(1.0, 1.0, bias=1.0)
    network.insert(2, layer)
    return network


OVERFLOWING: dict[str, Callable[[], nn.Module]] = {
    "one infinite logit": lambda: _one_class(3e38),
    "all logits": lambda: dense(1e30, 1e30, bias=1.0),
    "the last layer": lambda: dense(1.0, 1e38, bias=1e38),
    "the first layer": lambda: dense(3e38, 1e-30, bias=1.0),
    "in the middle": lambda: dense(1.0, 1e20, 1e20, 1e-38, bias=1.0),
    "three layers": lambda: dense(1e13, 1e13, 1e13, bias=1.0),
    "minus infinity": lambda: _one_class(-3e38),
    "a constant": lambda: Scaled(lambda h: h * 1e20 * 1e20),
    "a division": lambda: Scaled(lambda h: h / 1e-20 / 1e-20),
    "batch normalisation": lambda: _normed(1e-10),
    "a sum": lambda: Scaled(lambda h: h * 1e38 + h * 3e38),
    "a mean": lambda: nn.Sequential(nn.Conv2d(1, 3, 1), nn.AvgPool2d(4), _big(), nn.Flatten()),
}


def _big() -> nn.Conv2d:
    layer = nn.Conv2d(3, 3, 1)
    nn.init.constant_(layer.weight, 3e38)
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias.copy_(torch.tensor([3e38, 1.0, -3e38]))
    return layer


@pytest.mark.parametrize("name", PROVERS)
@pytest.mark.parametrize("what", OVERFLOWING)
def test_a_network_that_overflows_is_not_certified(what: str, name: str) -> None:
    classifier = make_classifier("large", OVERFLOWING[what](), SHAPE)
    pixels = torch.full((2, *SHAPE), 0.9)
    logits = classifier.predict(pixels)
    images = Images(("a", "b"), pixels, logits.argmax(1))
    assert not bool(proven(name, Norm.LINF, classifier, images).any()), logits


def test_a_class_that_an_infinite_logit_hides_is_not_proven_beyond_where_it_is_finite() -> None:
    """Class 0 overflows at the image; 0.85 away its logit is finite, and class 1 wins."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.4e38], [0.0]]))
        layer.bias.copy_(torch.tensor([-1.7e37, 3e38]))
    doubling = nn.Linear(1, 1, bias=False)
    nn.init.constant_(doubling.weight, 2.0)
    network = nn.Sequential(nn.Flatten(), doubling, layer)
    classifier = make_classifier("hidden", network, (1, 1, 1))
    pixels = torch.tensor([1.0]).view(1, 1, 1, 1)
    images = Images(("a",), pixels, torch.tensor([0]))
    assert classifier.predict(pixels)[0, 0].isinf()
    assert classifier.predict(pixels - 0.85).argmax() == 1
    for name in PROVERS:
        assert proven(name, Norm.LINF, classifier, images) == 0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_large_network_that_does_not_overflow_is_certified(dtype: torch.dtype) -> None:
    classifier = make_classifier("large", _one_class(1e35), SHAPE).to("cpu", dtype)
    images = images_for(classifier, 3)
    for name in PROVERS:
        assert (proven(name, Norm.LINF, classifier, images) > 0.3 * images.pixels.mean()).all()


PADDED = [
    ((3, 3, 0, 1), (1, 3, 1, 5)),
    ((1, 1, 0, 1), (1, 6, 1, 1)),
    ((1, 1, 0, 1), (1, 7, 1, 1)),
    ((1, 1, 0, 1), (2, 7, 2, 1)),
    ((1, 1, 0, 1), (3, 8, 3, 1)),
    ((2, 1, 0, 1), (1, 5, 1, 1)),
    ((2, 1, 0, 1), (2, 6, 2, 1)),
    ((2, 1, 0, 1), (1, 11, 4, 1)),
    ((2, 1, 0, 2), (1, 4, 1, 1)),
    ((2, 2, 0, 1), (2, 5, 2, 1)),
    ((3, 1, 0, 1), (1, 4, 1, 1)),
    ((4, 1, 0, 1), (1, 3, 1, 1)),
    ((1, 1, 0, 1), (1, 5, 1, 1)),
    ((1, 1, 1, 1), (1, 1, 1, 1)),
    ((3, 2, 6, 2), (3, 3, 4, 3)),
    ((2, 3, 4, 5), (2, 3, 2, 2)),
]
"""Kernel, stride, padding and dilation of two convolutions. The only window of the second sees padding alone, but for
the last four pairs."""


@pytest.mark.parametrize(("first", "second"), PADDED)
def test_windows_that_see_only_padding_are_certified_like_others(
    first: tuple[int, int, int, int], second: tuple[int, int, int, int]
) -> None:
    """With a ReLU behind them, and as a part of the last layers."""
    torch.manual_seed(5)
    body = nn.Sequential(nn.Conv2d(1, 2, *first), nn.ReLU(), nn.Conv2d(2, 2, *second))
    features = body(torch.zeros(1, *SHAPE)).numel()
    for network in (
        nn.Sequential(body, nn.ReLU(), nn.Flatten(), nn.Linear(features, 3)),
        nn.Sequential(body, nn.Flatten(), nn.Linear(features, 3)),
    ):
        classifier = make_classifier("padded", network, SHAPE)
        images = images_for(classifier, 2)
        exact = evaluated(trace(classifier), images.pixels)[-1].flatten(1)
        assert torch.allclose(exact.float(), classifier.predict(images.pixels), atol=1e-5)
        for name in PROVERS:
            for norm in BALLS:
                radius = proven(name, norm, classifier, images)
                assert (radius > 0).all()
                x = images.pixels.double()
                reach = norm.size(torch.maximum(x, 1 - x))
                assert (radius <= reach).all()
