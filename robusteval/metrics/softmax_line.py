"""Softmax outputs along the line through an image and its perturbation."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from robusteval.attacks.pgd import PGD
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.methods import Quantity, Radius, Statistic, Step
from robusteval.core.norms import Norm
from robusteval.core.passes import Passes
from robusteval.core.streams import Streams
from robusteval.metrics.base import AtWitnesses, Measurement, Observation
from robusteval.metrics.whole_set import GatheringMetric
from robusteval.models.classifier import Classifier
from robusteval.models.gathering import Gathered


class SoftmaxLine(AtWitnesses, GatheringMetric):
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

    def gather(self, classifier: Classifier, images: Images, witnesses: Tensor | None, streams: Streams) -> Gathered:
        """Which images have a line, `found` (N,) bool, and its `variation` (N,), NaN for none; of the first `shown`
        lines the `lines` (M, k, T) of its k likeliest `classes` (M, k)."""
        if self.witnesses is None:
            witnesses = self._perturbed(classifier, images, streams)
        assert witnesses is not None
        found = witnesses.flatten(1).isfinite().all(1)
        variation = torch.full(found.shape, torch.nan, dtype=torch.float64, device=found.device)
        k = min(self.classes, classifier.num_classes)
        classes, lines = [variation.new_empty(0, k, dtype=torch.int64)], [variation.new_empty(0, k, self.points)]
        rows = found.nonzero()[:, 0]
        for some in rows.split(max(1, classifier.batch_size // self.points)) if len(rows) else ():
            here = softmax_lines(classifier.select(some), images.pixels[some], witnesses[some], self._places)
            variation[some] = here.diff(dim=1).abs().sum((1, 2)) / 2
            first = here[: max(0, self.shown - sum(map(len, lines)))]
            classes.append(first.amax(1).topk(k).indices)
            lines.append(first.transpose(1, 2).gather(1, classes[-1][..., None].expand(-1, -1, self.points)))
        return {"found": found, "variation": variation, "classes": torch.cat(classes), "lines": torch.cat(lines)}

    def merged(self, one: Gathered, other: Gathered) -> Gathered:
        both = super().merged(one, other)
        return both | {name: both[name][: self.shown] for name in ("classes", "lines")}

    def conclude(self, classifier: Classifier, gathered: Gathered, streams: Streams, step: Step) -> Observation:
        found, variation, classes, lines = (gathered[k] for k in ("found", "variation", "classes", "lines"))
        rows = found.nonzero()[:, 0]
        if not len(rows):
            raise UnsupportedError(f"expected witnesses of '{self.witnesses}' to draw lines through, got none")

        def spread(values: Tensor, chosen: Tensor) -> Tensor:
            """Values of some images, NaN for the others."""
            out = torch.full_like(variation, torch.nan)
            out[chosen] = values
            return out

        probabilities = [
            Measurement(f"probability_{k}", at, spread(lines[line, place, i], rows[line]))
            for k in classes.unique().tolist()
            for line, place in [(classes == k).nonzero(as_tuple=True)]
            for i, at in enumerate(self._places.tolist())
        ]
        mean = float(variation[rows].mean())
        return Observation(
            [Statistic("lines", 0, len(rows)), Statistic("variation", self.span, mean)],
            [*probabilities, Measurement("variation", self.span, variation)],
        )

    @property
    def _places(self) -> Tensor:
        """t, (T,)."""
        return torch.linspace(-self.span, self.span, self.points, dtype=torch.float64)

    def _perturbed(self, classifier: Classifier, images: Images, streams: Streams) -> Tensor:
        """Every image after all steps of PGD (N, C, H, W)."""
        attack = PGD(norm=Norm.LINF, preset="sgr")
        ball, x, goal = attack.begin(
            classifier, images, torch.full_like(images.pixels[:, 0, 0, 0], self.budget), streams
        )
        for _ in range(attack.steps):
            gradient, _, _ = classifier.gradient(x, goal)
            x = attack.ascend(ball, x, gradient)
        return x


def softmax_lines(classifier: Classifier, pixels: Tensor, witnesses: Tensor, t: Tensor) -> Tensor:
    """Probabilities at x + t (witness - x) for images (N, C, H, W) and t (T,), (N, T, K) float64."""
    steps = t.to(pixels).view(-1, 1, 1, 1)
    points = pixels[:, None] + steps * (witnesses - pixels)[:, None]
    logits = classifier.predict(points.flatten(0, 1)).double()
    return logits.softmax(1).view(*points.shape[:2], -1)
