"""How far from an image its linearisation holds, and how the largest singular value changes on the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.metrics.climbed import AtPerturbed
from robusteval.models.classifier import Classifier
from robusteval.numerics.jacobian import Linearised, Of, outputs
from robusteval.numerics.singular import singular_values


class Linearity(AtPerturbed, ImageMetric):
    """`deviation_random` at distance |z|_2: |phi(x + z) - phi(x) - J z|_2, and `largest_singular_value_random` of J
    at x + z, the means over `samples` directions z uniform on the sphere.

    OpNorm section 5.4, figure 4; phi are the penultimate features (or the logits). `deviation_adversarial` and
    `largest_singular_value_adversarial` are the same towards the perturbed image: the end of an `ascent` at one
    `budget`, or the closest witness of the attack `witnesses`. It lies at `witness_distance` (L2); NaN where the attack
    found none or the witness is the image. x + z is not clipped
    (the paper does not say): far enough it leaves the box [0, 1], where no image is. A deviation below about 1e-6 of
    |phi| is rounding in float32. Singular values are those of robusteval/singular.py: exact but for rounding up to 100
    outputs, to 1e-3 for more. Costs a forward and a backward, one more pass for each direction, and at each distance on
    it a forward and the largest singular value: a forward and as many backwards as outputs, or for more than 100 at
    most about as many passes as that.
    """

    name: ClassVar[str] = "linearity"
    title: ClassVar[str] = "Linearity"
    summary: ClassVar[str] = "deviation from the linearisation, and singular value, by distance (OpNorm, section 5.4)"
    quantities = (
        Quantity(name="witness_distance", title="L2 distance of the perturbed image"),
        Quantity(name="deviation_random", title="deviation, random directions"),
        Quantity(name="deviation_adversarial", title="deviation, towards the perturbed image"),
        Quantity(name="largest_singular_value_random", title="largest singular value, random directions"),
        Quantity(
            name="largest_singular_value_adversarial", title="largest singular value, towards the perturbed image"
        ),
    )

    of: Of = "features"
    distances: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = tuple(i / 4 for i in range(13))
    """|z|_2 in pixel units; by default 13 values evenly in [0, 3]. The paper gives its own in an image only."""
    samples: PositiveInt = 3

    @property
    def says(self) -> str:
        return f" of the {self.of}"

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        x = images.pixels
        curves = {"random": self._along(classifier, x, _unit(streams.normal(self.samples, *images.shape)), streams)}
        distances = []
        perturbed = self.perturbed(classifier, images, witnesses, streams)
        if perturbed is not None:
            size = Norm.L2.size(perturbed - x).double()
            rows = (size > 0).nonzero()[:, 0]
            distances = [Measurement("witness_distance", 0, torch.where(size > 0, size, torch.nan))]
            curves["adversarial"] = torch.full_like(curves["random"], torch.nan)
            if len(rows):
                ways = _unit((perturbed - x)[rows, None])
                found = self._along(classifier.select(rows), x[rows], ways, streams.select(rows))
                curves["adversarial"][..., rows] = found
        return distances + [
            Measurement(f"{quantity}_{way}", distance, values)
            for way, both in curves.items()
            for quantity, curve in zip(("deviation", "largest_singular_value"), both, strict=True)
            for distance, values in zip(self.distances, curve, strict=True)
        ]

    def _along(self, classifier: Classifier, pixels: Tensor, ways: Tensor, streams: Streams) -> Tensor:
        """Deviations and largest singular values from images (N, C, H, W), the means over their unit directions
        (N, S, C, H, W), (2, distances, N) float64."""
        f, size = outputs(classifier, self.of), classifier.batch_size
        found = torch.zeros(2, len(self.distances), len(pixels), dtype=torch.float64, device=pixels.device)
        for rows in torch.arange(len(pixels), device=pixels.device).split(size):
            x, directions, own = pixels[rows], ways[rows], streams.select(rows)
            line = Linearised(f, x)
            slopes = line.push(directions.flatten(2))
            for z, slope in zip(directions.unbind(1), slopes.unbind(1), strict=True):
                for k, d in enumerate(self.distances):
                    with torch.no_grad():
                        gone = f(x + d * z) - line.value.detach() - d * slope
                    found[0, k, rows] += Norm.L2.size(gone)
                    found[1, k, rows] += singular_values(f, x + d * z, 1, size, own)[:, 0]
        return found / ways.shape[1]


def _unit(ways: Tensor) -> Tensor:
    """Directions (N, S, C, H, W) of L2 size 1."""
    return Norm.L2.scale_to(ways.flatten(0, 1), 1.0).view_as(ways)
