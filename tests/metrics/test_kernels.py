"""Smoothness and spectra of kernels whose numbers are known by hand or in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metric_cases import F64, SHAPE, images_of, observe, random_pixels, small_net
from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.metrics.base import Observation
from robusteval.metrics.kernels import Kernels, mean_spectrum, smoothness
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SIDE = 64


def network(*layers: nn.Module) -> Classifier:
    body = nn.Sequential(*layers, nn.Flatten())
    return make_classifier("net", body, SHAPE, mean=(0.5, 0.4), std=(0.2, 0.3)).to("cpu", F64)


def with_kernels(weight: Tensor) -> Classifier:
    """One padded convolution of these weights (O, 2, k, k)."""
    conv = nn.Conv2d(2, len(weight), (weight.shape[2], weight.shape[3]), padding=8)
    with torch.no_grad():
        conv.weight.copy_(weight)
    return network(conv)


def look(classifier: Classifier, **settings: int) -> Observation:
    return observe(Kernels(**settings), classifier, images_of(random_pixels(3)))


def numbers(seen: Observation, layer: str = "0") -> dict[str, float]:
    return {
        s.quantity.removesuffix(f":{layer}"): s.value
        for s in seen.statistics
        if s.quantity.endswith(f":{layer}") and "spectrum" not in s.quantity
    }


def spectrum(seen: Observation, layer: str = "0") -> dict[float, float]:
    return {s.at: s.value for s in seen.statistics if s.quantity == f"spectrum:{layer}"}


def everywhere(kernel: Tensor) -> Tensor:
    return kernel.expand(3, 2, *kernel.shape).clone()


def share_above(power: np.ndarray) -> float:
    """Of |DFT|^2 on a grid of frequencies, above a radius of 0.25 cycles a pixel."""
    f = np.array([k / SIDE if k <= SIDE // 2 else k / SIDE - 1 for k in range(SIDE)])
    high = f[:, None] ** 2 + f[None] ** 2 > 0.25**2
    return float(power[high].sum() / power.sum())


def test_r0_by_hand() -> None:
    kernel = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 3.0]])
    rows = 1 + 4 + 1 + 16
    columns = 1 + 9 + 1
    assert float(smoothness(kernel)) == rows + columns
    found = numbers(look(with_kernels(everywhere(kernel))))
    assert found["smoothness"] == pytest.approx(6 * (rows + columns))
    assert found["smoothness_normalised"] == pytest.approx((rows + columns) / float(kernel.square().sum()))


def test_a_delta_is_white() -> None:
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 2.0
    seen = look(with_kernels(everywhere(kernel)))
    assert list(spectrum(seen).values()) == pytest.approx([1.0] * len(spectrum(seen)))
    inside = sum(a * a + b * b <= 256 for a in range(-32, 32) for b in range(-32, 32))
    found = numbers(seen)
    assert found["high_frequency_share"] == pytest.approx(1 - inside / SIDE**2, rel=1e-12)
    assert found["high_frequency_share"] == pytest.approx(1 - math.pi / 16, abs=0.01)
    # A corner has two neighbours.
    assert found["smoothness_normalised"] == pytest.approx(2.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_constant_and_checkerboard_kernels_have_dirichlets_spectrum(sign: float) -> None:
    """|DFT|^2 of k ones in a row is (sin(pi k f) / sin(pi f))^2; alternating signs move it by half a cycle."""
    k = 5
    line = sign ** torch.arange(k).double()
    seen = look(with_kernels(everywhere(line[:, None] * line)))
    f = np.arange(SIDE) / SIDE + (0.5 if sign < 0 else 0.0)
    with np.errstate(invalid="ignore"):
        row = np.where(f % 1 == 0, k**2, (np.sin(math.pi * k * f) / np.sin(math.pi * f)) ** 2)
    found = numbers(seen)
    assert found["high_frequency_share"] == pytest.approx(share_above(row[:, None] * row), rel=1e-10)
    assert found["smoothness"] == pytest.approx(0 if sign > 0 else 6 * 4 * 2 * k * (k - 1))
    assert found["high_frequency_share"] < 0.2 if sign > 0 else found["high_frequency_share"] > 0.98
    # At frequency 0: all of the weight or, for an odd side, one of k * k; over a mean of k^2 (Parseval).
    assert spectrum(seen)[0.0] == pytest.approx(k**4 / k**2 if sign > 0 else 1 / k**2)


@pytest.mark.parametrize(("shape", "side"), [((4, 2, 3, 3), 64), ((2, 2, 5, 3), 16), ((2, 2, 4, 4), 3)])
def test_the_mean_spectrum_is_that_of_every_kernel(shape: tuple[int, ...], side: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    found = mean_spectrum(weight, side)
    assert min(found.shape) >= side
    sides = (found.shape[0], found.shape[1])
    expected = np.abs(np.fft.fft2(weight.numpy(), sides)) ** 2
    assert np.allclose(found, expected.mean((0, 1)), rtol=1e-9, atol=1e-12)
    # Parseval: nothing is lost.
    assert float(found.mean()) == pytest.approx(float(weight.square().mean((0, 1)).sum()))


def test_many_kernels_are_taken_a_few_at_a_time() -> None:
    weight = torch.randn(30, 4, 3, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    whole = mean_spectrum(weight, 8)
    with memory.at_most(100):
        assert torch.allclose(mean_spectrum(weight, 8), whole)


def test_a_plane_wave_lies_at_its_frequency() -> None:
    j = torch.arange(16).double()
    wave = torch.cos(2 * math.pi * 0.375 * j).expand(16, 16)
    seen = look(with_kernels(everywhere(wave)))
    peak = max(spectrum(seen).items(), key=lambda pair: pair[1])[0]
    assert peak == pytest.approx(0.375, abs=1 / 32)
    assert numbers(seen)["high_frequency_share"] > 0.85


def test_white_noise_is_as_rough_as_documented() -> None:
    """R0 over the sum of squares: 4 (k - 1) / k; the error of a ratio of 20,000 squares is a few percent at most."""
    weight = torch.randn(1000, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    assert numbers(look(with_kernels(weight)))["smoothness_normalised"] == pytest.approx(8 / 3, rel=0.05)


def test_layers_in_order_grouped_and_without_those_of_1x1() -> None:
    torch.manual_seed(1)
    grouped = nn.Conv2d(4, 6, 3, groups=2, padding=1)
    classifier = network(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, padding=1), grouped, nn.Conv2d(6, 2, (1, 2)))
    seen = look(classifier)
    places = {s.quantity: s.at for s in seen.statistics if s.quantity.startswith("smoothness:")}
    assert places == {"smoothness:1": 1, "smoothness:2": 2, "smoothness:3": 3}
    weight = grouped.weight.detach().double()
    assert weight.shape == (6, 2, 3, 3)
    assert numbers(seen, "2")["smoothness"] == pytest.approx(float(smoothness(weight)))
    assert seen.arrays["kernel/0"].shape == (4, 3, 3)


def test_a_layer_of_zeros_has_no_ratios() -> None:
    seen = look(with_kernels(torch.zeros(1, 2, 3, 3)))
    assert numbers(seen) == {"smoothness": 0}
    assert not spectrum(seen)


def test_images_of_the_first_layer() -> None:
    torch.manual_seed(2)
    conv = nn.Conv2d(2, 5, 3)
    classifier = network(conv, nn.ReLU()).metered(3)
    images = images_of(random_pixels(3))
    seen = observe(Kernels(shown=3, side=16), classifier, images)
    assert seen.arrays.keys() == {f"{kind}/{i}" for kind in ("kernel", "magnitude", "response") for i in range(3)}
    normalised = (images.pixels[:1] - classifier.module.mean) / classifier.module.std  # type: ignore[operator]
    response = conv.double()(normalised)[0].detach()
    for i in range(3):
        weight = conv.weight[i].detach()
        assert torch.allclose(seen.arrays[f"kernel/{i}"].double(), weight, atol=1e-7)
        assert torch.allclose(seen.arrays[f"response/{i}"][0].double(), response[i], atol=1e-6)
        magnitude = seen.arrays[f"magnitude/{i}"][0]
        assert magnitude.shape == (16, 16)
        # Frequency 0 in the middle is the sum of the weights of each channel.
        assert float(magnitude[8, 8]) == pytest.approx(float(weight.sum((1, 2)).norm()), rel=1e-5)
    assert classifier.meter.forwards.tolist() == [1, 0, 0]


class Unused(nn.Module):
    """A convolution that no image passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Conv2d(2, 2, 3)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(32, 2))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.body(pixels)
        return logits


def test_a_layer_without_responses_and_a_network_without_convolutions() -> None:
    seen = look(make_classifier("unused", Unused(), SHAPE).to("cpu", F64))
    assert "smoothness:spare" in {s.quantity for s in seen.statistics}
    assert "response/0" not in seen.arrays
    for layers in ((), (nn.Conv2d(2, 3, 1),)):
        with pytest.raises(UnsupportedError, match=r"torch\.nn\.Conv2d larger than 1x1.*got net"):
            look(network(*layers))


def test_float32_measures_what_float64_does() -> None:
    images = images_of(random_pixels(3))
    first, second = (
        numbers(observe(Kernels(), small_net(dtype=dtype), images.to("cpu", dtype))) for dtype in (torch.float32, F64)
    )
    assert first.keys() == {"smoothness", "smoothness_normalised", "high_frequency_share"}
    assert first == pytest.approx(second, rel=1e-6)
