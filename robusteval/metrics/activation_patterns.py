"""How many ReLUs stay on the same side when noise is added, at the images and far from them."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.activations import activation_pattern
from robusteval.metrics.base import ImageMetric, Measurement
from robusteval.metrics.climbed import AtPerturbed
from robusteval.models.classifier import Classifier


class ActivationPatterns(AtPerturbed, ImageMetric):
    """`unchanged_at_data` at magnitude eps: the share of ReLUs that image x and x + z have on the same side.

    OpNorm section 5.5: z is uniform in [-eps, eps] in each pixel value, the mean of `samples` draws;
    `unchanged_at_noise` is the same around a point n drawn uniformly from the input domain [0, 1]^D.
    `unchanged_adversarial` follows the direction from x to the perturbed image, the end of an `ascent` at one `budget`
    or the closest witness of the attack `witnesses`, as far as such noise reaches in L2: eps sqrt(D / 3), its root mean
    square. `witness_magnitude` is the eps that leads to the perturbed image itself. Both are NaN where the attack found
    none or the witness is the image.
    Equal bits count, on or off: the paper writes m^-1 (phi_x n phi_{x+z}), which at eps = 0 would be the share of
    ReLUs that are on, but its curves begin at 1. Two patterns that have nothing to do with each other share half of
    their bits or more, not none. The same draws serve every eps, and x + z is not clipped to [0, 1]. Costs
    2 (1 + `samples` M) forwards for M magnitudes, and 1 + M more towards the perturbed image.
    """

    name: ClassVar[str] = "activation-patterns"
    title: ClassVar[str] = "Activation patterns"
    summary: ClassVar[str] = "share of ReLU activations that noise leaves unchanged (OpNorm, section 5.5)"
    quantities = (
        Quantity(name="unchanged_at_data", title="uniform noise around the images"),
        Quantity(name="unchanged_at_noise", title="uniform noise around noise"),
        Quantity(name="unchanged_adversarial", title="towards the perturbed image, as far"),
        Quantity(name="witness_magnitude", title="magnitude of the perturbed image"),
    )

    magnitudes: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = tuple(i / 40 for i in range(21))
    """eps, in pixel units; by default 21 values evenly in [0, 0.5]. The paper gives its own in an image only."""
    samples: PositiveInt = 3

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(3 + (2 * self.samples + 1) * len(self.magnitudes)) * images

    def measure(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams
    ) -> list[Measurement]:
        x = images.pixels
        away = streams.uniform(*images.shape)
        noise = 2 * streams.uniform(self.samples, *images.shape) - 1
        curves = {
            "unchanged_at_data": self._unchanged(classifier, x, noise),
            "unchanged_at_noise": self._unchanged(classifier, away, noise),
        }
        found = [
            Measurement(quantity, eps, values)
            for quantity, curve in curves.items()
            for eps, values in zip(self.magnitudes, curve, strict=True)
        ]
        perturbed = self.perturbed(classifier, images, witnesses, streams)
        return found if perturbed is None else found + self._towards(classifier, images, perturbed - x)

    def _towards(self, classifier: Classifier, images: Images, perturbations: Tensor) -> list[Measurement]:
        reach = math.sqrt(images.pixels[0].numel() / 3)
        size = Norm.L2.size(perturbations).double()
        rows = (size > 0).nonzero()[:, 0]
        curve = torch.full((len(self.magnitudes), len(images)), torch.nan, dtype=torch.float64, device=size.device)
        if len(rows):
            direction = Norm.L2.scale_to(perturbations[rows], reach)[:, None]
            curve[:, rows] = self._unchanged(classifier.select(rows), images.pixels[rows], direction)
        magnitude = torch.where(size > 0, size / reach, torch.nan)
        return [
            Measurement("witness_magnitude", 0, magnitude),
            *(Measurement("unchanged_adversarial", e, v) for e, v in zip(self.magnitudes, curve, strict=True)),
        ]

    def _unchanged(self, classifier: Classifier, pixels: Tensor, directions: Tensor) -> Tensor:
        """Shares between images x (N, C, H, W) and x + eps z, the mean over their directions z (N, S, C, H, W),
        (magnitudes, N) float64."""
        parts = []
        for x, ways in zip(pixels.split(classifier.batch_size), directions.split(classifier.batch_size), strict=True):
            here = activation_pattern(classifier, x)
            shares = torch.zeros(len(self.magnitudes), len(x), dtype=torch.float64, device=x.device)
            for z in ways.unbind(1):
                for share, eps in zip(shares, self.magnitudes, strict=True):
                    share += (activation_pattern(classifier, x + eps * z) == here).double().mean(1)
            parts.append(shares / directions.shape[1])
        return torch.cat(parts, dim=1)
