"""The pass that gives the mean after the first ReLU: against samples, against quadrature, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm as gaussian
from torch import Tensor, nn
from torch.nn import functional

from defending import F64, a_batch, begun, conv_net, dense_net, linear
from robusteval.core.errors import UnsupportedError
from robusteval.defenses.mean_after_relu import MeanAfterRelu, rectified_mean
from robusteval.defenses.moment_regularization import MomentRegularization
from robusteval.models.making import Preprocessed


class Bent(nn.Module):
    """A first layer, a ReLU in one of its forms, and nothing more."""

    def __init__(self, first: nn.Module, relu: str = "module") -> None:
        super().__init__()
        self.first, self.relu = first, relu
        self.bend = nn.ReLU(inplace=relu == "inplace")

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.relu in ("module", "inplace"):
            bent: Tensor = self.bend(y)
        elif self.relu == "method":
            bent = y.relu()
        else:
            bent = torch.relu(y) if self.relu == "torch" else functional.relu(y)
        return bent.flatten(1)


def mean_of(network: nn.Module, pixels: Tensor, sigma: Tensor) -> Tensor:
    with MeanAfterRelu(pixels, sigma.square().expand_as(pixels)) as mean:
        found: Tensor = network(pixels)
    assert mean.found
    return found


FIRST: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(50, 6)),
    "padded": lambda: nn.Conv2d(2, 4, 3, padding=1),
    "strided": lambda: nn.Conv2d(2, 4, 3, stride=2, padding=(0, 1)),
    "grouped": lambda: nn.Conv2d(2, 4, 2, groups=2, bias=False),
    "dilated": lambda: nn.Conv2d(2, 3, 2, dilation=2, padding="same"),
}


@pytest.mark.parametrize("name", FIRST)
def test_it_is_the_mean_over_noisy_pixels_within_five_standard_errors(name: str) -> None:
    """With the normalisation in front, and a deviation for each channel."""
    torch.manual_seed(1)
    network = Preprocessed(Bent(FIRST[name]()).double(), (0.3, 0.5), (0.2, 0.4), F64)
    pixels, sigma = a_batch(1, (2, 5, 5)).pixels, torch.tensor([0.1, 0.4], dtype=F64).view(1, 2, 1, 1)
    noise = torch.randn(40000, 2, 5, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    with torch.no_grad():
        outputs = network(pixels + sigma * noise)
        found = mean_of(network, pixels, sigma)[0]
    error = outputs.std(0) / len(outputs) ** 0.5
    # The sample's deviation is known where a unit is on in a hundred draws or more.
    often = (outputs > 0).sum(0) >= 100
    assert often.double().mean() > 0.5
    assert ((outputs.mean(0) - found).abs() <= 5 * error)[often].all()
    assert (network(pixels)[0] - found).abs().max() > 20 * error.max()


@pytest.mark.parametrize("relu", ["module", "inplace", "function", "method", "torch"])
def test_entry_by_entry_it_is_the_integral_of_the_rectified_gaussian(relu: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 2).double()
    pixels = a_batch(1, (1, 3, 3)).pixels
    with torch.no_grad():
        found = mean_of(Bent(conv, relu), pixels, torch.tensor(0.3, dtype=F64))[0]
        means = conv(pixels).flatten()
    spreads = conv.weight.flatten(1).norm(dim=1).detach().repeat_interleave(4) * 0.3
    for value, m, s in zip(found.tolist(), means.tolist(), spreads.tolist(), strict=True):
        integral, _ = quad(lambda z, m=m, s=s: z * gaussian.pdf(z, m, s), 0, max(m, 0) + 12 * s, epsabs=1e-13)
        assert value == pytest.approx(integral, abs=1e-11)


def test_without_variance_it_is_the_relu_and_its_gradient_is_finite() -> None:
    mean = torch.tensor([-2.0, 0.0, 0.5, 30.0], requires_grad=True)
    variance = torch.zeros(4, requires_grad=True)
    value = rectified_mean(mean, variance)
    value.sum().backward()
    assert torch.allclose(value, mean.clamp_min(0), atol=1e-18)
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    assert variance.grad is not None
    assert variance.grad.isfinite().all()


def test_as_sigma_vanishes_the_second_loss_is_the_first() -> None:
    """The mean is off by at most s * 0.4 for each unit, and the loss in proportion: 1e-9 is far below 1e-6."""
    network, defense = conv_net(), MomentRegularization(sigma=1e-9, weight=2.0)
    loss, _ = defense.objective(network, a_batch(), {})
    assert loss.item() == pytest.approx(
        3 * functional.cross_entropy(network(a_batch().pixels), a_batch().labels).item(), rel=1e-6
    )


def test_the_rest_of_the_network_is_applied_to_the_mean() -> None:
    network, batch = dense_net(16, 5, 3), a_batch()
    x, first = batch.pixels.flatten(1), linear(network, 1)
    spread = (0.2**2 * first.weight.square().sum(1)).sqrt()
    ratio = first(x) / spread
    mean = first(x) * torch.special.ndtr(ratio) + spread * torch.exp(-0.5 * ratio**2) / (2 * torch.pi) ** 0.5
    found = MomentRegularization(sigma=0.2).smoothed(network, batch.pixels)
    assert torch.allclose(found, network[3](mean), rtol=0, atol=1e-13)


class Around(nn.Module):
    """What goes past the layer before the ReLU."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.way = nn.Conv2d(1, 1, 3, padding=1), way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "after":
            y = self.conv(x) + x
        elif self.way == "mean":
            y = self.conv(x) - x.mean()
        elif self.way == "squared":
            y = self.conv(x * x)
        elif self.way == "doubled":
            y = self.conv(x + x)
        else:
            y = self.conv(x) * torch.ones(1, 2, 1, 1, dtype=F64)
        return functional.relu(y).flatten(1)


def a_norm() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (a_norm, "batch_norm"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten()), "conv2d"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()), "batch_norm"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()), "max_pool2d"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.ReLU(), nn.Flatten()), "tanh"),
    (lambda: nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()), "dropout"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), "got no ReLU"),
    (
        lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3), nn.Flatten()),
        "affine layer before the first ReLU, got none",
    ),
    (lambda: Around("after"), "add"),
    (lambda: Around("mean"), "mean"),
    (lambda: Around("squared"), "mul"),
    (lambda: Around("doubled"), "add"),
    (lambda: Around("wider"), "mul"),
]


@pytest.mark.parametrize(("make", "named"), REFUSED, ids=[f"{i}-{n}" for i, (_, n) in enumerate(REFUSED)])
def test_networks_that_do_not_begin_with_one_layer_and_a_relu_are_refused_and_the_reason_is_named(
    make: Callable[[], nn.Module], named: str
) -> None:
    network = make().double()
    network.train()
    with pytest.raises(UnsupportedError, match=named):
        begun(MomentRegularization(), network, a_batch())


def test_the_check_at_the_beginning_leaves_the_running_statistics_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    begun(MomentRegularization(), network.train(), a_batch())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sigma_of_the_wrong_length_is_refused() -> None:
    for count, channels in itertools.product((1, 2), (1, 3)):
        defense, batch = MomentRegularization(sigma=(0.1,) * count), a_batch(shape=(channels, 4, 4))
        if count == channels:
            begun(defense, conv_net(channels=channels), batch)
        else:
            with pytest.raises(UnsupportedError, match=f"sigma with {channels} values, one a channel, got {count}"):
                begun(defense, conv_net(channels=channels), batch)
