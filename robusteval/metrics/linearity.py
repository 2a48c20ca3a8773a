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
    for more. Costs a forward and, for each direction, one with a tangent (for few outputs: a Jacobian instead), and
    at each distance a forward and a Jacobian: a forward and as many backwards as outputs, or for more than 64 some ten
    steps of two forwards and a backward.
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
        random = streams.normal(self.samples, *images.shape)
        curves = {"random": self._along(classifier, x, _unit(random), start)}
        distances = []
        if witnesses is not None:
            size = Norm.L2.size(witnesses - x).double()
            rows = (size > 0).nonzero()[:, 0]
            distances = [Measurement("witness_distance", 0, torch.where(size > 0, size, torch.nan))]
            curves["adversarial"] = torch.full_like(curves["random"], torch.nan)
            if len(rows):
                ways = _unit((witnesses - x)[rows, None])
                curves["adversarial"][..., rows] = self._along(classifier.select(rows), x[rows], ways, start[rows])
        return distances + [
            Measurement(f"{quantity}_{way}", distance, values)
            for way, both in curves.items()
            for quantity, curve in zip(("deviation", "largest_singular_value"), both, strict=True)
            for distance, values in zip(self.distances, curve, strict=True)
        ]

    def _along(self, classifier: Classifier, pixels: Tensor, ways: Tensor, start: Tensor) -> Tensor:
        """Deviations and largest singular values from pictures (N, C, H, W), the means over their unit directions
        (N, S, C, H, W), (2, distances, N) float64."""
        f = outputs(classifier, self.of)
        size = max(1, min(classifier.batch_size, ENTRIES // (STEPS * pixels[0].numel())))
        parts = []
        for x, directions, v in zip(pixels.split(size), ways.split(size), start.split(size), strict=True):
            with torch.no_grad():
                value = f(x)
            few = value.shape[1] <= FEW
            j = torch.cat(list(jacobians(f, x, size))) if few else None
            found = torch.zeros(2, len(self.distances), len(x), dtype=torch.float64, device=x.device)
            for z in directions.unbind(1):
                slope = pushed(f, x, z)[1] if j is None else (j @ z.flatten(1)[:, :, None])[:, :, 0]
                points = [x + d * z for d in self.distances]
                with torch.no_grad():
                    gone = [f(p) - value - d * slope for p, d in zip(points, self.distances, strict=True)]
                if few:
                    values = torch.cat([spectrum(there)[:, 0] for there in jacobians(f, torch.cat(points), size)])
                else:
                    values = torch.cat([largest_singular_value(f, p, v) for p in points])
                found[0] += torch.stack([Norm.L2.size(g) for g in gone])
                found[1] += values.view(len(points), len(x))
            parts.append(found / ways.shape[1])
        return torch.cat(parts, dim=2)


def _unit(ways: Tensor) -> Tensor:
    """Directions (N, S, C, H, W) of L2 size 1."""
    return Norm.L2.scale_to(ways.flatten(0, 1), 1.0).view_as(ways)
