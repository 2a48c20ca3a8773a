"""What the certificates by bound propagation share: the radius of each image, the largest that was certified."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from robusteval.certify.base import Radii, State
from robusteval.certify.propagation.asked import Proof
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.guard import check_answers, moved
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins
from robusteval.certify.propagation.program import traced
from robusteval.certify.propagation.radius_search import largest_radius
from robusteval.certify.propagation.trace import trace
from robusteval.core import memory
from robusteval.core.images import Images
from robusteval.core.methods import Quantity
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

AT_ONCE = 2**24
"""Numbers that are known of the values of a batch of images: 128 MiB."""
PER_VALUE = 10
"""Numbers that are known of each: an interval, two lines and their constants, and what makes them."""
LARGEST = 100
"""Images in a batch, however small the network."""
FIRST = 1e-4
"""The radius tested first where nothing is known, relative to the largest in the box."""


def batches(graph: Graph, chosen: Tensor, per_value: int = PER_VALUE) -> Sequence[Tensor]:
    """The rows of chosen images (N,) bool, in batches of which all can be known at once."""
    sizes = [math.prod(node.shape) for node in graph.nodes]
    # The margin to each other class is a row that is pulled back through the layers.
    numbers = per_value * sum(sizes) + 2 * (graph.classes - 1) * max(sizes)
    rows = chosen.nonzero()[:, 0]
    return rows.split(min(LARGEST, memory.rows(AT_ONCE, numbers))) if len(rows) else ()


LEFT = Quantity(name="proven_margin", title="margin proven at the image itself, rounding included")


class Propagated(Proof):
    """The largest radius at which a lower bound of every margin f_c - f_i over the ball is positive."""

    quantities = (LEFT,)

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """The search stops when the next larger radius that failed is this close, relative."""

    @abstractmethod
    def margins(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        """Lower bounds (M, K - 1) of f_c - f_i over each of M balls, c the label and i the other classes."""

    def start(self, graph: Graph, x: Tensor, labels: Tensor) -> Tensor:
        """The radius tested first, (M,); 0 for none in particular."""
        return x.new_zeros(len(x))

    def per_value(self, graph: Graph) -> int:
        """How many numbers are held for each of the network's, an image."""
        return PER_VALUE

    def at_zero(self, graph: Graph, x: Tensor, labels: Tensor) -> Tensor:
        """The least margin (M,) that it proves at radius 0: by intervals where those suffice, which costs least."""
        point = InputBall(self.norm, x, x.new_zeros(len(x)))
        clean = interval_margins(graph, propagated(graph, point), point, labels).amin(1)
        rows = (~(clean > 0)).nonzero()[:, 0]
        if len(rows):
            point = InputBall(self.norm, x[rows], point.eps[rows])
            clean[rows] = torch.fmax(clean[rows], self.margins(graph, point, labels[rows]).amin(1))
        return clean

    def proven(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        """Whether all margins over each of M balls are proven positive, (M,) bool."""
        return self.margins(graph, ball, labels).amin(1) > 0

    def answered(self, graph: Graph, x: Tensor, labels: Tensor, clean: Tensor, asked: Tensor) -> Tensor:
        """Of the radii asked of each image, (M, Q), the largest first, the first that is proven, (M,); 0 for none."""
        radius = torch.zeros_like(clean)
        for radii in asked.unbind(1):
            rows = ((radius == 0) & (clean > 0)).nonzero()[:, 0]
            if len(rows):
                ball = InputBall(self.norm, x[rows], radii[rows])
                radius[rows] = torch.where(self.proven(graph, ball, labels[rows]), radii[rows], 0.0)
        return radius

    def certified(self, graph: Graph, x: Tensor, labels: Tensor, clean: Tensor | None = None) -> Tensor:
        """Radii (M,) of images x (M, C, H, W) of the classes `labels` (M,); all numbers float64. `clean`: `at_zero`."""
        reach = self.norm.size(torch.maximum(x, 1 - x))
        clean = self.at_zero(graph, x, labels) if clean is None else clean
        start = self.start(graph, x, labels)

        def margin(rows: Tensor, radius: Tensor) -> Tensor:
            return self.margins(graph, InputBall(self.norm, x[rows], radius), labels[rows]).amin(1)

        return largest_radius(margin, clean, torch.where(start > 0, start, FIRST * reach), reach, self.tolerance)

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        """The measurement `proven_margin`: the least margin f_c - f_i proven at radius 0; where it is not positive,
        rounding exceeds it and the radius is 0; NaN for misclassified images."""
        asked, graph = self.questions(images), trace(classifier)
        predicted = classifier.predict(images.pixels).argmax(1)
        radius = torch.zeros(len(images), dtype=torch.float64, device=predicted.device)
        left = torch.full_like(radius, torch.nan)
        for rows in batches(graph, predicted == images.labels, self.per_value(graph)):
            x, labels = images.pixels[rows].double(), images.labels[rows]
            clean = self.at_zero(graph, x, labels)
            left[rows] = torch.where(clean.isnan(), -torch.inf, clean)
            if asked is None:
                radius[rows] = self.certified(graph, x, labels, clean)
            else:
                radius[rows] = self.answered(graph, x, labels, clean, asked[rows])
        check_near(graph, classifier, images, self.norm, radius, streams)
        measured = ((LEFT.name, 0.0, left),)
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool), measured)


def check_near(
    graph: Graph, classifier: Classifier, images: Images, norm: Norm, radius: Tensor, streams: Streams
) -> None:
    """Raise UnsupportedError where the network answers otherwise than its graph at the N images that were certified or
    near them, within their radii (N,)."""
    pixels = torch.cat([images.pixels, moved(images.pixels, norm, radius, streams)])
    check_answers(graph, traced(classifier)[0], classifier, pixels)
