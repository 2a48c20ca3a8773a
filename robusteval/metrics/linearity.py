"""How far from an image its linearisation holds, and how the largest singular value changes on the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from robusteval.classifier import Classifier
from robusteval.images import Images
from robusteval.jacobian import ENTRIES, Of, jacobians, outputs, pushed, spectrum
from robusteval.lanczos import STEPS, largest_singular_value
from robusteval.metrics.base import AtWitnesses, ImageMetric, Measurement
from robusteval.norms import Norm
from robusteval.streams import Streams

FEW = 64
"""Up to so many outputs the whole Jacobian costs less than its largest singular value alone."""


class Linearity(AtWitnesses, ImageMetric):
    """`deviation_random` at distance |z|_2: |phi(x + z) - phi(x) - J z|_2, and `largest_singular_value_random` of J
    at x + z, the means over `samples` directions z uniform on the sphere.

    OpNorm section 5.4, figure 4; phi are the penultimate features (or the logits). `deviation_adversarial` and
    `largest_singular_value_adversarial` are the same towards the closest witness of the attack `witnesses`, which
    lies at `witness_distance` (L2); NaN where the attack found none or the witness is the image. As in the paper x + z
    is not clipped: far enough it leaves the box [0, 1], where no image is. A deviation below about 1e-6 of |phi| is
    rounding in float32. Singular values are exact but for rounding up to 64 outputs, and by `largest_singular_value`
    for more. Costs, for each direction, one forward with a tangent, and for each distance a forward and a Jacobian:
    a forward and as many backwards as outputs, or some ten steps of two forwards and a backward.
    """

    name: ClassVar[str] = "linearity"
    summary: ClassVar[str] = "deviation from the linearisation, and singular value, by distance (OpNorm, section 5.4)"

    of: Of = "features"
    distances: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = tuple(i / 4 for i in range(13))
    """|z|_2 in pixel units; by default 13 values evenly in [0, 3]. The paper gives its own in a picture only."""
    samples: PositiveInt = 3

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        x = images.pixels
        start = streams.normal(*images.shape)
        ways = [Norm.L2.scale_to(streams.normal(*images.shape), 1.0) for _ in range(self.samples)]
        curves = {"random": torch.stack([self._along(classifier, x, z, start) for z in ways]).mean(0)}
        distances = []
        if witnesses is not None:
            size = Norm.L2.size(witnesses - x).double()
            rows = (size > 0).nonzero()[:, 0]
            distances = [Measurement("witness_distance", 0, torch.where(size > 0, size, torch.nan))]
            curves["adversarial"] = torch.full_like(curves["random"], torch.nan)
            if len(rows):
                z = Norm.L2.scale_to((witnesses - x)[rows], 1.0)
                curves["adversarial"][..., rows] = self._along(classifier.select(rows), x[rows], z, start[rows])
        return distances + [
            Measurement(f"{quantity}_{way}", distance, values)
            for way, both in curves.items()
            for quantity, curve in zip(("deviation", "largest_singular_value"), both, strict=True)
            for distance, values in zip(self.distances, curve, strict=True)
        ]

    def _along(self, classifier: Classifier, pixels: Tensor, z: Tensor, start: Tensor) -> Tensor:
        """Deviations and largest singular values along unit directions z (N, C, H, W), (2, distances, N) float64."""
        f = outputs(classifier, self.of)
        size = max(1, min(classifier.batch_size, ENTRIES // (STEPS * pixels[0].numel())))
        parts = []
        for x, way, v in zip(pixels.split(size), z.split(size), start.split(size), strict=True):
            value, slope = pushed(f, x, way)
            points = [x + d * way for d in self.distances]
            with torch.no_grad():
                gone = [f(p) - value - d * slope for p, d in zip(points, self.distances, strict=True)]
            deviations = torch.stack([Norm.L2.size(g).double() for g in gone])
            if value.shape[1] <= FEW:
                values = torch.cat([spectrum(j)[:, 0] for j in jacobians(f, torch.cat(points), size)])
            else:
                values = torch.cat([largest_singular_value(f, p, v) for p in points])
            parts.append(torch.stack([deviations, values.view(len(points), -1)]))
        return torch.cat(parts, dim=2)
