"""Softmax outputs along the line through an image and its perturbation."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.pgd import PGD
from robusteval.attacks.search.active import keep
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Radius, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import AtWitnesses, Measurement, Observation, SetMetric
from robusteval.models.classifier import Classifier


class SoftmaxLine(AtWitnesses, SetMetric):
    """Probabilities at x + t * xi for t in [-span, span]: the image at t = 0, the image perturbed by xi at t = 1.

    SGR appendix 7.3, figure 6: xi is PGD's in Linf at a fixed `budget`, on every image and away from the predicted
    class, after all of its steps, so that the class changes at t = 1 or does not. With `witnesses` it is that of the
    closest witness of an attack instead, for the images with one: there the class has just changed.

    `variation` at the span: the total variation of the softmax outputs along the line, sum over the points of half the
    L1 distance to the one before; 1 where the outputs go over from one class to another once, and a lower bound of
    the continuous one. The statistic `variation` is its mean over the `lines`. For the first `shown` of them, by id,
    `probability_<class>` at t, of the `classes` classes with the largest maximum along that image's line.

    As it seems in the paper, nothing is clipped on the line: for large t pixels leave [0, 1], since a clipped line is
    bent. `points` forwards a line, and what the steps of PGD cost.
    """

    name = "softmax-line"
    title = "Softmax along the line"
    summary = "softmax outputs between an image and five times its perturbation (SGR, figure 6)"
    quantities = (
        Quantity(name="probability_{class}", title="probability of class {class}"),
        Quantity(name="variation", title="variation"),
        Quantity(name="lines", title="images"),
    )

    budget: Radius = 4 / 255
    """Of PGD with the settings of SGR's table 2, where there are no `witnesses`."""
    shown: PositiveInt = 6
    span: PositiveFloat = 5.0
    points: Annotated[int, Field(ge=2)] = 41
    """Evenly in [-span, span], both ends included."""
    classes: PositiveInt = 10

    def passes(self, images: int, classes: int) -> Passes:
        return Passes(self.points) * images

    def observe(
        self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams, step: Step
    ) -> Observation:
        if self.witnesses is None:
            witnesses = self._perturbed(classifier, images, streams)
        assert witnesses is not None
        rows = witnesses.flatten(1).isfinite().all(1).nonzero()[:, 0]
        if not len(rows):
            raise UnsupportedError(f"expected witnesses of '{self.witnesses}' to draw lines through, got none")
        t = torch.linspace(-self.span, self.span, self.points, dtype=torch.float64)
        variation, first = list[Tensor](), list[Tensor]()
        for some in rows.split(max(1, classifier.batch_size // self.points)):
            lines = softmax_lines(classifier.select(some), images.pixels[some], witnesses[some], t)
            variation.append(lines.diff(dim=1).abs().sum((1, 2)) / 2)
            if sum(len(lines) for lines in first) < self.shown:
                first.append(lines)
            step(sum(len(v) for v in variation), len(rows))
        drawn, varied = torch.cat(first)[: self.shown], torch.cat(variation)
        kept = drawn.amax(1).topk(min(self.classes, drawn.shape[2])).indices

        def spread(values: Tensor, chosen: Tensor) -> Tensor:
            """Values of some images, NaN for the others."""
            out = values.new_full((len(images),), torch.nan)
            out[chosen] = values
            return out

        probabilities = [
            Measurement(f"probability_{k}", at, spread(drawn[has, i, k], rows[: len(drawn)][has]))
            for k in kept.unique().tolist()
            for has in [(kept == k).any(1)]
            for i, at in enumerate(t.tolist())
        ]
        return Observation(
            [Statistic("lines", 0, len(rows)), Statistic("variation", self.span, float(varied.mean()))],
            [*probabilities, Measurement("variation", self.span, spread(varied, rows))],
        )

    def _perturbed(self, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        """Every image after all steps of PGD (N, C, H, W)."""
        attack = PGD(norm=Norm.LINF, preset="sgr")
        each = Streams.for_images(streams.seed, self.label, images.ids, images.pixels)
        ends = []
        for rows in torch.arange(len(images)).split(classifier.batch_size):
            view, some, own = keep(rows, classifier, images, each)
            ball, x, goal = attack.begin(view, some, torch.full_like(some.pixels[:, 0, 0, 0], self.budget), own)
            for _ in range(attack.steps):
                gradient, _, _ = view.gradient(x, goal)
                x = attack.ascend(ball, x, gradient)
            ends.append(x)
        return torch.cat(ends)


def softmax_lines(classifier: Classifier, pixels: Tensor, witnesses: Tensor, t: Tensor) -> Tensor:
    """Probabilities at x + t (witness - x) for images (N, C, H, W) and t (T,), (N, T, K) float64."""
    steps = t.to(pixels).view(-1, 1, 1, 1)
    points = pixels[:, None] + steps * (witnesses - pixels)[:, None]
    logits = classifier.predict(points.flatten(0, 1)).double()
    return logits.softmax(1).view(*points.shape[:2], -1)
