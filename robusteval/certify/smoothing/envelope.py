"""Randomized smoothing at several noise levels, all of them right at once, and the largest of their radii."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, field_validator

from robusteval.certify.base import Radii, State
from robusteval.certify.smoothing.base import Smoothed
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.numerics.binomial import certified_radius


class SmoothingEnvelope(Smoothed):
    """For each image the largest radius of `smoothing` over a family of noise levels, and the class that it is of.

    Each sigma of S `sigmas` gets alpha / S, so that with probability at least 1 - alpha all S radii of an image are
    right at once, and with them the one picked after looking at them. What is certified: smooth(f, sigma*) gives the
    class `predicted` everywhere within the radius, where sigma* is the image's `envelope_sigma` (the first of equals).
    Where the classes of the sigmas differ, the largest radius still decides, and it speaks for its own class only.
    It is a statement about that member of the family. It is none about a classifier that picks sigma anew for
    each image: a perturbed image might be given another sigma. To use one: keep to one sigma, and its rows.

    At each sigma `smoothing_radius`, `smoothing_class`, `smoothing_count` and `smoothing_samples` are kept;
    binomial.certified_radius at alpha / S makes the radius of the counts. S * (n0 + n) forward evaluations an image.
    """

    name: ClassVar[str] = "smoothing-envelope"
    title: ClassVar[str] = "Smoothing envelope"
    summary: ClassVar[str] = "randomized smoothing at several noise levels, the largest radius (Cohen et al. 2019)"
    quantities = (
        *Smoothing.quantities,
        Quantity(name="smoothing_radius", title="radius at one sigma"),
        Quantity(name="smoothing_class", title="class at one sigma"),
        Quantity(name="envelope_sigma", title="sigma of the largest radius"),
    )

    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.12, 0.25, 0.5)
    """Standard deviations of the noise, ascending, pixel units."""

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(len(self.sigmas) * (self.n0 + self.n)) * images

    @field_validator("sigmas")
    @classmethod
    def _ascending(cls, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        if list(sigmas) != sorted(set(sigmas)):
            raise ValueError(f"expected distinct ascending sigmas, got {list(sigmas)}")
        return sigmas

    def certifies(self, n: int) -> bool:
        return bool(certified_radius(n, n, self.alpha / len(self.sigmas), self.sigmas[0]) > 0)

    @property
    def subject(self) -> str:
        return f"smooth(f, {{{', '.join(f'{sigma:g}' for sigma in self.sigmas)}}})"

    @property
    def members(self) -> tuple[Smoothing, ...]:
        """The certificate at each sigma, with its share of alpha."""
        share = self.alpha / len(self.sigmas)
        return tuple(Smoothing(sigma=sigma, n0=self.n0, n=self.n, alpha=share) for sigma in self.sigmas)

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        found = [member.radii(classifier, images, state, streams) for member in self.members]
        radius, best = torch.stack([own.radius for own in found]).max(0)
        predicted = torch.stack([own.predicted for own in found]).gather(0, best[None])[0]
        kept = [
            measurement
            for sigma, own in zip(self.sigmas, found, strict=True)
            for measurement in (
                *own.measurements,
                ("smoothing_radius", sigma, own.radius),
                ("smoothing_class", sigma, own.predicted.double()),
            )
        ]
        return Radii(
            radius, predicted, radius <= 0, (*kept, ("envelope_sigma", 0, radius.new_tensor(self.sigmas)[best]))
        )
