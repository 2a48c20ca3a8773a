"""Singular values of the Jacobian of the penultimate features with respect to the pixels."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.metrics.base import Measurement, Metric
from robusteval.streams import Streams

JACOBIAN_VALUES = 2**25
"""Jacobian entries held at a time: 128 MB in float32 and, for their products, 256 MB in float64."""


class JacobianSpectrum(Metric):
    """`singular_value` at rank 1, 2, ...: how much the features stretch small changes of the pixels.

    OpNorm section 5.2: the spectrum of J, the Jacobian (features, pixels) of phi^{L-1}, what the last linear
    layer takes. The largest is the local (2, 2) operator norm. Units: feature units per pixel unit.
    `singular_value_adversarial` is the same at the closest witness of the attack `witnesses`, NaN where it found
    none. Values are roots of the eigenvalues of the smaller of J J^T and J^T J in float64: those below about
    1e-7 of the largest are rounding. One forward and as many backwards as there are features, a picture.
    """

    name: ClassVar[str] = "jacobian-spectrum"
    summary: ClassVar[str] = "singular values of the penultimate features' Jacobian (OpNorm, section 5.2)"

    ranks: PositiveInt | None = 20
    """How many of the largest singular values are kept; None for all."""
    witnesses: str | None = None
    """The label of the attack at whose witnesses the spectrum is measured too."""

    @property
    def witnesses_of(self) -> str | None:
        return self.witnesses

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        clean = singular_values(classifier, images.pixels)[:, : self.ranks]
        spectra = {"singular_value": clean}
        if witnesses is not None:
            found = witnesses.flatten(1).isfinite().all(1).nonzero()[:, 0]
            adversarial = torch.full_like(clean, torch.nan)
            if len(found):
                values = singular_values(classifier.select(found), witnesses[found])
                adversarial[found] = values[:, : self.ranks]
            spectra["singular_value_adversarial"] = adversarial
        return [
            Measurement(quantity, rank, values)
            for quantity, spectrum in spectra.items()
            for rank, values in enumerate(spectrum.T, start=1)
        ]


def singular_values(classifier: Classifier, pixels: Tensor) -> Tensor:
    """All singular values at pictures (N, C, H, W), descending, (N, min(features, pixels)) float64."""
    # The first picture alone tells how many features there are, and so how many Jacobians fit in memory.
    first = jacobian(classifier, pixels[:1])
    size = max(1, min(classifier.batch_size, JACOBIAN_VALUES // first.numel()))
    rest = [_spectrum(jacobian(classifier, part)) for part in pixels[1:].split(size) if len(part)]
    return torch.cat([_spectrum(first), *rest])


def jacobian(classifier: Classifier, pixels: Tensor) -> Tensor:
    """The Jacobian of the features (N, F, C*H*W): one backward pass of the whole batch for each feature."""
    with torch.enable_grad():
        x = pixels.detach().requires_grad_()
        outputs = classifier.features(x).unbind(1)
        rows = [torch.autograd.grad(o.sum(), x, retain_graph=True)[0].flatten(1) for o in outputs]
    return torch.stack(rows, dim=1)


def _spectrum(j: Tensor) -> Tensor:
    j = j.double()
    gram = j @ j.mT if j.shape[1] <= j.shape[2] else j.mT @ j
    squares: Tensor = torch.linalg.eigvalsh(gram).flip(1)
    return squares.clamp_min(0).sqrt()
