"""Singular values of the Jacobian with respect to the pixels."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.jacobian import Map, jacobians, outputs, spectrum
from robusteval.metrics.base import AtWitnesses, ImageMetric, Measurement
from robusteval.streams import Streams


class JacobianSpectrum(AtWitnesses, ImageMetric):
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
    f: Map = outputs(classifier, "features")
    return torch.cat([spectrum(j) for j in jacobians(f, pixels, classifier.batch_size)])
