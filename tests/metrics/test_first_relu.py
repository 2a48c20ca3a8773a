"""The first ReLU of a network: what stands before it is one affine map, and what follows is the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from metric_cases import F64, SHAPE, images_of, measure, random_pixels
from rectifying import MEAN, STD, classifier_of, two_layers
from robusteval.core.errors import UnsupportedError
from robusteval.metrics.analytic_moments import AnalyticMoments
from robusteval.metrics.first_relu import first_relu


class Folded(nn.Module):
    """Strides, padding, batch norm, dropout, functional and method forms before the ReLU, and what follows."""

    def __init__(self, relu: str, linear: bool) -> None:
        super().__init__()
        self.relu, self.linear = relu, linear
        self.first: nn.Module = nn.Linear(32, 10) if linear else nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=2)
        self.norm: nn.Module = nn.BatchNorm1d(10) if linear else nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.bend = nn.ReLU(inplace=True)
        self.last = nn.Linear(10 if linear else 24, 4)

    def affine(self, x: Tensor) -> Tensor:
        x = (x * 2 - 0.5).view(x.size(0), -1) if self.linear else 0.5 * x
        y: Tensor = self.drop(self.norm(self.first(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        y = self.affine(x)
        bent = self.bend(y) if self.relu == "module" else functional.relu(y) if self.relu == "function" else y.relu()
        z: Tensor = self.last(bent.reshape(x.shape[0], -1).add_(0.25))
        return z


def folded(relu: str, linear: bool) -> Folded:
    torch.manual_seed(4)
    network = Folded(relu, linear)
    norm_layer = network.norm
    assert isinstance(norm_layer, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm_layer.running_mean is not None
    assert norm_layer.running_var is not None
    with torch.no_grad():
        norm_layer.running_mean.uniform_(-1, 1)
        norm_layer.running_var.uniform_(0.2, 3)
        norm_layer.weight.uniform_(-2, 2)
        norm_layer.bias.uniform_(-1, 1)
    return network.eval()


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("relu", ["module", "function", "method"])
def test_the_first_layer_is_the_dense_matrix_of_what_the_network_does(relu: str, linear: bool) -> None:
    network = folded(relu, linear)
    classifier = classifier_of(network)
    network.double()
    mean, std = (torch.tensor(v, dtype=F64).view(1, 2, 1, 1) for v in (MEAN, STD))

    def affine(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return network.affine((pixels - mean) / std).flatten(1)

    split, pixels = first_relu(classifier), random_pixels(5)
    offset = affine(torch.zeros(1, *SHAPE, dtype=F64))
    matrix = (affine(torch.eye(32, dtype=F64).view(32, *SHAPE)) - offset).T
    assert torch.allclose(split.before(pixels), affine(pixels), rtol=1e-6, atol=1e-6)
    assert torch.allclose(split.gain, (matrix @ matrix.T).diag().sqrt(), rtol=1e-6)
    logits, after = split.both.predict(pixels).split([4, len(split.gain)], 1)
    assert torch.allclose(logits, classifier.predict(pixels))
    assert torch.allclose(after, affine(pixels).clamp_min(0), rtol=1e-6, atol=1e-6)
    values = after.unflatten(1, split.shape)
    assert torch.allclose(split.rest.predict(values), logits)
    assert torch.equal(values.flatten(1), after)


def test_a_network_in_channels_last_and_single_precision_is_split_alike() -> None:
    """Flattening follows the order of the entries, not of the memory."""
    pixels = random_pixels(4).float()
    classifier = classifier_of(folded("module", False), torch.float32)
    split = first_relu(classifier)
    split.both.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    after = split.both.predict(pixels.contiguous(memory_format=torch.channels_last))[:, 4:]
    assert torch.allclose(split.before(pixels).clamp_min(0).float(), after, atol=1e-5)
    assert torch.allclose(split.rest.predict(after.unflatten(1, split.shape)), classifier.predict(pixels), atol=1e-5)


class Skip(nn.Module):
    """What goes past the first ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 2, 1), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.last((x + functional.relu(self.first(x))).flatten(1))
        return z


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(32, 5), nn.Linear(32, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        z: Tensor = self.last(torch.relu(self.first(x) + self.second(x)))
        return z


class Choosing(Branches):
    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = super().forward(x if x.mean() > 0 else -x)
        return z


def unnormed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU(), nn.Flatten())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.Tanh(), nn.Linear(5, 3)), r"got Tanh at 'network\.2' in net"),
        (nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.GELU(), nn.ReLU()), r"got GELU at 'network\.2'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.Linear(5, 4), nn.ReLU()), "got 2 linear or convolutional"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(32, 3)), "got 0 linear or convolutional"),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()), r"got MaxPool2d .* before any"),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten()), "got 2 linear or"),
        (nn.Sequential(nn.Flatten(), nn.Linear(32, 3)), "got no ReLU in net"),
        (Skip(), "a value that goes past the ReLU, into 'add'"),
        (Branches(), "a sum or concatenation of several values"),
        (Choosing(), "expected a network that torch.fx can trace"),
        (unnormed(), r"got BatchNorm2d at 'network\.1'"),
    ],
)
def test_networks_that_do_not_begin_so_are_named(network: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        measure(AnalyticMoments(), classifier_of(network), images_of(random_pixels(1)))


def test_a_network_with_hooks_is_refused() -> None:
    network = two_layers()
    next(m for m in network.modules() if isinstance(m, nn.Linear)).register_forward_hook(lambda m, i, out: out * 2)
    with pytest.raises(UnsupportedError, match="a forward hook on"):
        first_relu(classifier_of(network))
