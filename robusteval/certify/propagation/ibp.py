"""ibp: radii proven by interval bound propagation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.base import Propagated
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins


class IBP(Propagated):
    """Intervals from layer to layer (Gowal et al. 2018), with the margins folded into the last affine layers.

    A PROOF: within the radius no image of [0, 1] gets another class from the network as it is evaluated, rounding
    included (propagation/rounding.py). It departs from the paper in two ways: the first layer is bounded exactly over
    the ball and the box, whichever the norm; ReLU and a max-pooling behind it are one maximum. The radius of a network
    that was not trained for it is tiny. Misclassified images get 0. One forward evaluation an image, and those
    that attack the proof, are counted; the search costs about ten propagations of the cost of two forward passes in
    float64.
    """

    name: ClassVar[str] = "ibp"
    title: ClassVar[str] = "IBP"
    summary: ClassVar[str] = "interval bound propagation (Gowal et al. 2018)"

    def margins(self, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        return interval_margins(graph, propagated(graph, ball), ball, labels)
