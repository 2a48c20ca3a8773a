"""The smoothness of kernels (SmoothKernels, section 3) against a loop over neighbouring pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from defending import F64, a_batch, conv_net
from robusteval.core.errors import UnsupportedError
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.logit_pairing import LogitPairing
from robusteval.defenses.smooth_kernels import SmoothKernels, exponents, roughness
from robusteval.defenses.standard import Standard
from robusteval.defenses.trades import Trades


def exponent(kernel: Tensor) -> float:
    """R0 - |w|^2, R0 over all pairs of places that touch along a side, each pair once."""
    places = list(itertools.product(*map(range, kernel.shape)))
    pairs = [(a, b) for a, b in itertools.combinations(places, 2) if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
    return sum(float(kernel[a] - kernel[b]) ** 2 for a, b in pairs) - sum(float(kernel[a]) ** 2 for a in places)


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (1, 4), (2, 3)])
def test_the_exponent_counts_every_neighbouring_pair_once(shape: tuple[int, int]) -> None:
    kernels = torch.randn(4, *shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    assert exponents(kernels).tolist() == pytest.approx([exponent(k) for k in kernels], rel=1e-12)


def several() -> nn.Sequential:
    """Layers of different sizes, a 1x1 convolution and a dense layer among them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, (1, 2)), nn.Flatten(), nn.Linear(2, 3)
    ).double()


def test_it_is_the_mean_over_the_kernels_of_all_layers_above_1x1() -> None:
    network = several()
    kernels = [k for layer in (network[0], network[2]) for k in layer.weight.detach().flatten(0, 1)]  # type: ignore[operator]
    assert len(kernels) == 9
    expected = sum(math.exp(min(exponent(k), 1.0)) for k in kernels) / 9
    assert roughness(network).item() == pytest.approx(expected, rel=1e-12)
    with torch.no_grad():
        network[1].weight.fill_(5.0)  # type: ignore[operator]
    assert roughness(network).item() == pytest.approx(expected, rel=1e-12)


def test_the_exponent_stops_at_one_and_takes_its_gradient_along() -> None:
    network = nn.Conv2d(1, 2, 3).double()
    with torch.no_grad():
        network.weight.zero_()
        network.weight[0, 0, 1, 1] = 10.0  # four neighbours: 4 * 100 - 100
    found = roughness(network)
    found.backward()
    assert found.item() == pytest.approx((math.e + 1) / 2, rel=1e-12)
    assert network.weight.grad is not None
    assert torch.equal(network.weight.grad[0], torch.zeros(1, 3, 3, dtype=F64))


def test_a_network_without_kernels_above_1x1_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="larger than 1x1 for smooth-kernels"):
        roughness(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(4, 2)))


BASES: dict[str, Defense] = {
    "V": Standard(),
    "T": Trades(budget=0.1, steps=3, gamma=0.5),
    "A": PGDTraining(budget=0.1, steps=3),
    "L": LogitPairing(budget=0.1, steps=3, gamma=0.5),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("weight", [0.0, 2.0, -2.0])
def test_it_adds_weight_times_the_roughness_to_its_base(base: str, weight: float) -> None:
    defense = SmoothKernels.model_validate({"base": base, "weight": weight, "budget": 0.1, "steps": 3, "gamma": 0.5})
    network = conv_net()
    expected = BASES[base].objective(network, a_batch(), {})[0] + weight * roughness(network)
    assert defense.objective(network, a_batch(), {})[0].item() == pytest.approx(expected.item(), rel=1e-14)
