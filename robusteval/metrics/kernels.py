"""How smooth the kernels of the convolutions are.

Smooth Kernels (ICLR 2020 submission) section 3 and figure 1. The neighbours N(i, j) of a weight are read as the four
beside it, within its kernel of one input and one output channel ("adjacent components"; the penalty is "broadcast
through the channels"); each pair counts once, as the authors' implementation does.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from robusteval.core import memory
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import Observation, SetMetric
from robusteval.models.classifier import Classifier
from robusteval.numerics.displacements import displacement_moments, padded_size, ring_means

HALF_NYQUIST = 0.25
"""Cycles a pixel: half of the highest frequency along an axis, 0.5."""
ENTRIES = 2**22
"""Of the kernels' padded spectra, held at a time: 64 MB complex128."""


class Kernels(SetMetric):
    """The smoothness penalty and the spectrum of every convolution (torch.nn.Conv2d) with kernels above 1x1.

    For each, by its name in the network and at its place, 1, 2, ..., among them in the order of its modules:
    `smoothness:<layer>`: R0, the sum over all kernels and neighbouring pairs of (w_ij - w_hk)^2, each pair once.
    `smoothness_normalised:<layer>`: R0 / sum of w^2, in [0, 8): 0 for constant kernels, 4 (k - 1) / k on average for
    k x k white noise. `high_frequency_share:<layer>`: the share of the kernels' energy at radial frequencies above
    half the Nyquist frequency, 0.25 cycles a pixel: sum of |DFT|^2 of the kernels, zero-padded to `side` x `side`, over
    these frequencies, by that over all; about 0.80 for a delta kernel, which is white. `spectrum:<layer>`, at a radial
    frequency in cycles a pixel: the mean of |DFT|^2 over the kernels and the frequencies that round to it (in steps of
    1/`side`), over the mean over all frequencies: 1 everywhere for a delta. Weights are taken as they are stored: no
    dilation, no stride, no batch normalisation that follows. Ratios of a layer of zeros are left out.

    Kept as images, of the first `shown` kernels of the first such layer: `kernel/0` (C, k, k), `magnitude/0`, its
    |DFT| (1, side, side) with frequency 0 in the middle (root of the sum of squares over the input channels), and
    `response/0`, its output (1, H, W) on the first image by id: figure 1. Exact. One forward of one image.
    """

    name = "kernels"
    title = "Kernels"
    summary = "smoothness penalty and spectrum of the convolutions' kernels (SmoothKernels, section 3)"
    quantities = (
        Quantity(name="smoothness:{layer}", title="R0 of {layer}"),
        Quantity(name="smoothness_normalised:{layer}", title="R0 / sum of squares of {layer}"),
        Quantity(name="high_frequency_share:{layer}", title="energy above half Nyquist of {layer}"),
        Quantity(name="spectrum:{layer}", title="energy of {layer}, relative to white"),
    )

    looks_at = 1

    shown: PositiveInt = 4
    side: PositiveInt = 64
    """Of the grid of frequencies, or the kernel's if that is larger."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(1)

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        layers = convolutions(classifier.module)
        if not layers:
            raise UnsupportedError(
                f"expected a network with a torch.nn.Conv2d larger than 1x1 to see its kernels, got {classifier.name}"
            )
        statistics = [
            Statistic(f"{quantity}:{layer}", at, value)
            for place, (layer, conv) in enumerate(layers.items(), start=1)
            for quantity, at, value in self._measured(conv.weight.detach().double(), place)
        ]
        return Observation(statistics, arrays=self._images(classifier, images, next(iter(layers.values()))))

    def _measured(self, weight: Tensor, place: int) -> list[tuple[str, float, float]]:
        penalty, energy = float(smoothness(weight)), float(weight.square().sum())
        found = [("smoothness", float(place), penalty)]
        if energy == 0:
            return found
        spectrum = mean_spectrum(weight, self.side)
        radial = radial_frequencies(*spectrum.shape).to(spectrum)
        share = float(spectrum[radial > HALF_NYQUIST].sum() / spectrum.sum())
        found += [("smoothness_normalised", float(place), penalty / energy), ("high_frequency_share", place, share)]
        at, means = ring_means(spectrum / spectrum.mean(), self.side * radial, torch.ones_like(radial))
        return found + [("spectrum", f, v) for f, v in zip((at / self.side).tolist(), means.tolist(), strict=True)]

    def _images(self, classifier: Classifier, images: Images, first: nn.Conv2d) -> dict[str, Tensor]:
        kernels = first.weight.detach().double()[: self.shown]
        sides = [max(self.side, k) for k in kernels.shape[-2:]]
        energies = torch.fft.fft2(kernels, sides).abs().square().sum(1, keepdim=True)
        found = {"kernel": kernels, "magnitude": torch.fft.fftshift(energies.sqrt(), (-2, -1))}
        outputs: list[Tensor] = []
        hook = first.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        try:
            classifier.select(torch.tensor([0])).predict(images.pixels[:1])
        finally:
            hook.remove()
        if outputs:
            found["response"] = outputs[0][0, : self.shown, None]
        return {f"{name}/{i}": p.float() for name, arrays in found.items() for i, p in enumerate(arrays)}


def convolutions(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions with kernels above 1x1, by name, in the order of the module tree."""
    named = ((name.removeprefix("network."), m) for name, m in module.named_modules())
    return {name: m for name, m in named if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1}


def smoothness(weight: Tensor) -> Tensor:
    """R0 of kernels (..., k, k): the sum of squared differences of neighbours, each pair once."""
    return weight.diff(dim=-1).square().sum() + weight.diff(dim=-2).square().sum()


def mean_spectrum(weight: Tensor, side: int) -> Tensor:
    """The mean over kernels (O, I, k, k) of |DFT|^2, zero-padded to at least `side` a side: that of their mean
    autocorrelation, which is small however many kernels there are."""
    kernels = weight.flatten(0, 1)[:, None]
    size = memory.rows(ENTRIES, padded_size((1, *weight.shape[2:])))
    correlations, pairs = displacement_moments(kernels.split(size))
    sums = correlations[0, 0] * pairs
    height, width = (max(side, n) for n in sums.shape)
    padded = sums.new_zeros(height, width)
    padded[: sums.shape[0], : sums.shape[1]] = sums
    middle = ((1 - n) // 2 for n in sums.shape)
    spectrum: Tensor = torch.fft.fft2(padded.roll(tuple(middle), (0, 1)))
    return spectrum.real.clamp_min(0)


def radial_frequencies(height: int, width: int) -> Tensor:
    """Of a DFT of that size, (height, width) in cycles a pixel, in the order of torch.fft.fft2."""
    down, right = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    return torch.hypot(down[:, None], right)
