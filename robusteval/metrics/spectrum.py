"""Singular values of the Jacobian with respect to the pixels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import Measurement
from robusteval.metrics.twinned import Twinned
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import outputs
from robusteval.numerics.singular import singular_values


class JacobianSpectrum(Twinned):
    """`singular_value` at rank 1, 2, ...: how much features or logits stretch small changes of the pixels.

    OpNorm section 5.2: the spectrum of J, the Jacobian (outputs, pixels) of phi^{L-1}, what the last linear layer
    takes, or of the logits. The largest is the local (2, 2) operator norm. Units: output units per pixel unit.
    `singular_value_adversarial` is the same where an `ascent` at one `budget` ends, as the paper measures it, or at the
    closest witness of the attack `witnesses`, NaN where it found none;
    `singular_value_twin` that of the same network with random weights, at the image.

    One forward and as many backwards as there are outputs, an image; values are roots of the eigenvalues of the
    smaller of J J^T and J^T J in float64, those below about 1e-7 of the largest are rounding. Where J does not fit, or
    where `ranks` take far fewer passes, they come from products with J and J^T (`singular.leading`) to 1e-3, NaN from
    the first rank on that did not converge.
    """

    name: ClassVar[str] = "jacobian-spectrum"
    title: ClassVar[str] = "Jacobian spectrum"
    summary: ClassVar[str] = "singular values of the Jacobian of features or logits (OpNorm, section 5.2)"
    quantities = (
        Quantity(name="singular_value", title="at the images"),
        Quantity(name="singular_value_adversarial", title="at the perturbed images"),
        Quantity(name="singular_value_twin", title="of random weights"),
    )

    def passes(self, images: int, classes: int) -> Passes | None:
        return Passes(1, classes) * (3 * images) if self.of == "logits" else None

    @property
    def label(self) -> str:
        return self.name if self.of == "features" else f"{self.name}-{self.of}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        spectra = {
            quantity: self._values(network, images.pixels, streams)
            for quantity, network in self.networks(classifier, "singular_value").items()
        }
        perturbed = self.perturbed(classifier, images, witnesses, streams)
        if perturbed is not None:
            found = perturbed.flatten(1).isfinite().all(1).nonzero()[:, 0]
            adversarial = torch.full_like(spectra["singular_value"], torch.nan)
            if len(found):
                adversarial[found] = self._values(classifier.select(found), perturbed[found], streams.select(found))
            spectra["singular_value_adversarial"] = adversarial
        return [
            Measurement(quantity, rank, values)
            for quantity, spectrum in spectra.items()
            for rank, values in enumerate(spectrum.T, start=1)
        ]

    def _values(self, classifier: Classifier, pixels: Tensor, streams: Streams) -> Tensor:
        """The largest `ranks` at images (N, C, H, W), descending, (N, k) float64."""
        return singular_values(outputs(classifier, self.of), pixels, self.ranks, classifier.batch_size, streams)
