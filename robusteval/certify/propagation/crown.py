"""crown: radii proven by backward linear bounds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeInt
from torch import Tensor

from robusteval.certify.propagation.alpha_crown import optimised_margins
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.base import PER_VALUE, Propagated
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins


class CROWN(Propagated):
    """Backward linear bounds with adaptive slopes (Zhang et al. 2018, CROWN), never below those of `ibp`.

    A PROOF: within the radius no image of [0, 1] gets another class from the network as it is evaluated, rounding
    included (propagation/rounding.py). The margins are pulled back to the pixels, where their least value over the
    ball cut by the box is exact. The values that maxima take are bounded the same way where that is affordable, met
    with the intervals; elsewhere by intervals alone. It departs from the paper in that box, and in the relaxation of
    max-pooling, into which a ReLU before or behind it is taken (propagation/relaxation.py). Misclassified images get 0.
    """

    name: ClassVar[str] = "crown"
    title: ClassVar[str] = "CROWN"
    summary: ClassVar[str] = "backward linear bounds, CROWN (Zhang et al. 2018)"

    affordable: NonNegativeInt = 10**8
    """A value inside the network is bounded by backward passes if those touch at most so many numbers, an image and
    a radius. LeNet-5 needs 2 million, the 7-layer CNN 60 million for MNIST and 400 million for CIFAR-10; of ResNet-18
    every value needs more, so that only its margins are pulled back."""

    optimise: NonNegativeInt = 0
    """Steps of gradient ascent on the slopes below the ReLUs (alpha-CROWN, Xu et al. 2021), for the margins alone;
    each costs about three passes. The radius is never below the one without."""

    def margins(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        known = propagated(graph, ball, refined(graph, ball, self.affordable))
        return optimised_margins(graph, known, ball, labels, self.optimise)

    def proven(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        found = interval_margins(graph, propagated(graph, ball), ball, labels).amin(1) > 0
        rows = (~found).nonzero()[:, 0]
        if len(rows):
            found[rows] = super().proven(graph, InputBall(ball.norm, ball.x[rows], ball.eps[rows]), labels[rows])
        return found

    def start(self, graph: Graph, x: Tensor, labels: Tensor) -> Tensor:
        if self.optimise:
            return self.model_copy(update={"optimise": 0, "at": None}).certified(graph, x, labels)
        return IBP(norm=self.norm, tolerance=self.tolerance).certified(graph, x, labels)

    def per_value(self, graph: Graph) -> int:
        return PER_VALUE + (8 * graph.classes if self.optimise else 0)
