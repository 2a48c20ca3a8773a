"""Softmax outputs along the line through an image and its witness."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Statistic, Step
from robusteval.core.streams import Streams
from robusteval.metrics.base import AtWitnesses, Measurement, Observation, SetMetric
from robusteval.models.classifier import Classifier


class SoftmaxLine(AtWitnesses, SetMetric):
    """Probabilities at x + t * xi for t in [-span, span], xi the perturbation of the closest witness of an attack.

    SGR appendix 7.3, figure 6: t = 0 is the image, t = 1 the witness. For the first `shown` images, by id, that have a
    witness: `probability_<class>` at t, of the `classes` classes with the largest maximum along that image's line.
    `variation` at the span: the total variation of the softmax outputs along the line, sum over the points of half the
    L1 distance to the one before; 1 where the outputs go over from one class to another once, and a lower bound of
    the continuous one. The statistic `variation` is its mean over the `lines` shown.

    Deviation: SGR's perturbation is PGD's at budget 4/255; here it is the closest witness, where the class has just
    changed. As it seems there, nothing is clipped: for large t pixels leave [0, 1], since a clipped line is bent.
    `points` forwards an image shown.
    """

    name = "softmax-line"
    title = "Softmax along the line"
    summary = "softmax outputs between an image and five times its perturbation (SGR, figure 6)"
    quantities = (
        Quantity(name="probability_{class}", title="probability of class {class}"),
        Quantity(name="variation", title="variation"),
        Quantity(name="lines", title="images"),
    )

    witnesses: str
    shown: PositiveInt = 6
    span: PositiveFloat = 5.0
    points: Annotated[int, Field(ge=2)] = 41
    """Evenly in [-span, span], both ends included."""
    classes: PositiveInt = 10

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        assert witnesses is not None
        rows = witnesses.flatten(1).isfinite().all(1).nonzero()[: self.shown, 0]
        if not len(rows):
            raise UnsupportedError(f"expected witnesses of '{self.witnesses}' to draw lines through, got none")
        t = torch.linspace(-self.span, self.span, self.points, dtype=torch.float64)
        lines = softmax_lines(classifier.select(rows), images.pixels[rows], witnesses[rows], t)
        variation = lines.diff(dim=1).abs().sum((1, 2)) / 2
        kept = lines.amax(1).topk(min(self.classes, lines.shape[2])).indices

        def spread(values: Tensor, chosen: Tensor) -> Tensor:
            """Values of some images, NaN for the others."""
            out = values.new_full((len(images),), torch.nan)
            out[rows[chosen]] = values[chosen]
            return out

        probabilities = [
            Measurement(f"probability_{k}", at, spread(lines[:, i, k], (kept == k).any(1)))
            for k in kept.unique().tolist()
            for i, at in enumerate(t.tolist())
        ]
        every = torch.ones_like(rows, dtype=torch.bool)
        return Observation(
            [Statistic("lines", 0, len(rows)), Statistic("variation", self.span, float(variation.mean()))],
            [*probabilities, Measurement("variation", self.span, spread(variation, every))],
        )


def softmax_lines(classifier: Classifier, pixels: Tensor, witnesses: Tensor, t: Tensor) -> Tensor:
    """Probabilities at x + t (witness - x) for images (N, C, H, W) and t (T,), (N, T, K) float64."""
    steps = t.to(pixels).view(-1, 1, 1, 1)
    points = pixels[:, None] + steps * (witnesses - pixels)[:, None]
    logits = classifier.predict(points.flatten(0, 1)).double()
    return logits.softmax(1).view(*points.shape[:2], -1)
