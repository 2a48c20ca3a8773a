"""Lower bounds of the margin over a ball: the least of f_c - f_i over all images of it, for every other class i."""

from __future__ import annotations

import torch
from torch import Tensor

from robusteval.certify.propagation.backward_bounds import pulled_back
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.values import Known


def other_classes(labels: Tensor, classes: int) -> Tensor:
    """The classes besides each label (M,), in their order, (M, K - 1)."""
    places = torch.arange(classes - 1, device=labels.device)
    return places + (places >= labels[:, None])


def class_differences(labels: Tensor, classes: int) -> Tensor:
    """The rows e_c - e_i, i != c, of each label c (M,): (M, K - 1, K, 1, 1)."""
    one = torch.eye(classes, dtype=torch.float64, device=labels.device)
    return (one[labels][:, None] - one[other_classes(labels, classes)])[..., None, None]


def interval_margins(graph: Graph, known: list[Known], ball: InputBall, labels: Tensor) -> Tensor:
    """(M, K - 1): intervals up to the last maximum, and the differences f_c - f_i folded into the affine layers
    behind it, as Gowal et al. (2018, section 3) do for the last layer."""
    return _bounded(graph, known, ball, labels, graph.tail())


def linear_margins(graph: Graph, known: list[Known], ball: InputBall, labels: Tensor) -> Tensor:
    """(M, K - 1): the differences pulled back to the pixels; never below those of the intervals."""
    linear = _bounded(graph, known, ball, labels, 0)
    return torch.maximum(linear, interval_margins(graph, known, ball, labels))


def linear_reach(graph: Graph, known: list[Known], ball: InputBall, labels: Tensor, margins: Tensor) -> Tensor:
    """How far from the images their margins (M, K - 1), bounded over the ball, would be positive if they change as fast
    everywhere as the linear bounds do at its edge, (M,): above its radius where all are positive. No bound."""
    rows = class_differences(labels, graph.classes).to(graph.coefficients)
    _, a, box = pulled_back(graph, known, graph.last, rows, Box(0, 0, 1, 1))
    every = torch.arange(len(labels), device=labels.device)
    _, rise = ball.least_and_rise(a, box, every)
    return (ball.eps[:, None] + margins / rise.clamp_min(1e-30)).nan_to_num(-1.0, 1e30, -1.0).amin(1)


def _bounded(graph: Graph, known: list[Known], ball: InputBall, labels: Tensor, until: int) -> Tensor:
    rows, box = class_differences(labels, graph.classes).to(graph.coefficients), Box(0, 0, 1, 1)
    constant, a, box = pulled_back(graph, known, graph.last, rows, box, until=until)
    return constant + (known[until].interval.least(a, box) if until else ball.least(a, box, None))
