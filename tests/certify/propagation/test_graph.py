"""The graph of a network answers as the network, and what has none is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from propagating import F64, NETWORKS, SHAPE, candidates, evaluated, images_for, proven, small
from robusteval.certify.propagation.trace import trace
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.making import make_classifier

STANDARDISED = ("cnn7-std-mnist", "cnn7-std-cifar10")
"""Of images standardised one by one, through which no bound passes (tests/models/test_architectures.py)."""


SMALLER = {"resnet50": (3, 64, 64), "wrn-28-10": (3, 16, 16)}
"""Images that these are given here, whose layers answer images of any size: the same layers in a third of the time."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "resnet50" else name
        for name in ARCHITECTURES
        if name not in STANDARDISED
    ],
)
def test_the_graph_of_every_architecture_answers_as_the_network(name: str) -> None:
    torch.manual_seed(2)
    architecture = ARCHITECTURES[name]
    shape = SMALLER.get(name, architecture.input_shape)
    classifier = make_classifier(name, architecture.network(), shape)
    weights = [m.weight for m in classifier.module.modules() if isinstance(m, nn.Conv2d)]
    assert any(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    pixels = candidates(2, shape)
    logits = evaluated(trace(classifier), pixels)[-1].flatten(1)
    assert torch.allclose(logits.float(), classifier.predict(pixels), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_graph_of_a_small_network_answers_as_the_network(network: str) -> None:
    classifier = small(network, F64)
    pixels = images_for(classifier, 5).pixels
    values = evaluated(trace(classifier), pixels)
    assert torch.allclose(values[-1].flatten(1), classifier.predict(pixels), atol=1e-9)


class Odd(nn.Module):
    one: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.linear = nn.Linear(128, 4)
        self.register_buffer("one", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.flatten(1))
        if self.what == "branch":
            return y if y.sum() > 0 else -y
        if self.what == "product":
            return y * y
        if self.what == "attention":
            z = y[:, None, :, None]
            return torch.nn.functional.scaled_dot_product_attention(z, z, z).flatten(1)
        if self.what == "across images":
            return y + y.flip(0)
        if self.what == "softmax":
            return y.softmax(1)
        return 1 / (y + self.one)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Tanhshrink()), "type Tanhshrink at 'network.2'"),
        (nn.Sequential(nn.MaxPool2d(3, dilation=2), nn.Flatten(), nn.Linear(8, 4)), "MaxPool2d with these settings"),
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.GELU(approximate="tanh")), "GELU with these settings"),
        (nn.Sequential(nn.GroupNorm(2, 2), nn.Flatten(), nn.Linear(128, 4)), "GroupNorm, which divides by a statistic"),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(128), nn.Linear(128, 4)), "LayerNorm, which divides by a statistic"),
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Softmax(1)), "Softmax, whose entries are quotients"),
        (Odd("branch"), "control flow"),
        (Odd("product"), "at 'mul'"),
        (Odd("attention"), "the function scaled_dot_product_attention, a product of values"),
        (Odd("across images"), "across images"),
        (Odd("softmax"), "softmax, whose entries are quotients"),
        (Odd("division"), "at 'truediv"),
    ],
)
def test_what_bounds_cannot_pass_through_is_named(network: nn.Module, named: str) -> None:
    classifier = make_classifier("odd", network, SHAPE)
    images = images_for(classifier, 2)
    with pytest.raises(UnsupportedError, match="expected") as error:
        proven("ibp", Norm.LINF, classifier, images)
    assert named in str(error.value)
