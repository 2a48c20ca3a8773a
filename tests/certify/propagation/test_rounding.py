"""Bounds hold for the network as it is evaluated: what rounding is allowed, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from propagating import F64, NETWORKS, candidates, evaluated, images_for, small
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.margins import interval_margins, linear_margins
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def _cancelling(dtype: torch.dtype) -> tuple[Classifier, Tensor]:
    """Sums of thousands of terms that nearly cancel: float32 is wrong in digits that decide."""
    torch.manual_seed(0)
    first, last = nn.Linear(4096, 200), nn.Linear(200, 50)
    layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.normal_()
            layer.bias.copy_(-0.5 * layer.weight.sum(1))
    return make_classifier("cancelling", layers, (1, 64, 64)).to("cpu", dtype), candidates(20, (1, 64, 64))


def test_float32_stays_within_the_padded_bounds_and_not_within_those_of_real_numbers() -> None:
    classifier, pixels = _cancelling(torch.float32)
    graph = trace(classifier)
    computed = classifier.predict(pixels).double()
    point = InputBall(Norm.LINF, pixels.double(), torch.zeros(len(pixels), dtype=F64))

    def within(graph: Graph) -> Tensor:
        interval = propagated(graph, point)[-1].interval
        lower, upper = (end.flatten(1) for end in (interval.lower, interval.upper))
        exact = evaluated(graph, pixels)[-1].flatten(1)
        assert ((exact >= lower) & (exact <= upper)).all()
        return (computed >= lower) & (computed <= upper)

    assert within(graph).all()
    assert not within(Graph(graph.nodes, F64, F64)).any(1).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_in_float32_stays_within_its_allowance(network: str) -> None:
    """Point by point: with intervals of no width all that is left is the allowance."""
    classifier = small(network)
    graph, images = trace(classifier), images_for(classifier, 10)
    ball = InputBall(Norm.LINF, images.pixels.double(), torch.zeros(10, dtype=F64))
    interval = propagated(graph, ball)[-1].interval
    computed = classifier.predict(images.pixels).double()[..., None, None]
    assert (computed >= interval.lower).all()
    assert (computed <= interval.upper).all()
    # A bound, but no useless one.
    assert (interval.upper - interval.lower).max() < 1e-2 * computed.abs().max()


def test_coefficients_in_float32_cost_little_and_stay_below_those_in_float64() -> None:
    classifier = small("branches")
    graph, images = trace(classifier), images_for(classifier, 6)
    assert graph.coefficients is torch.float32
    ball = InputBall(Norm.LINF, images.pixels.double(), torch.full((6,), 0.05, dtype=F64))
    short, long = (
        linear_margins(g, propagated(g, ball, refined(g, ball, 10**9)), ball, images.labels)
        for g in (graph, Graph(graph.nodes, graph.dtype, F64))
    )
    assert (short <= long).all()
    assert (long - short).max() < 0.01


def test_coefficients_in_float32_are_charged_for_their_rounding() -> None:
    """An affine network in float64, whose margins are known: only the rounding of the coefficients is left."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(1024, 400), nn.Linear(400, 30))
    classifier = make_classifier("deep", network, (1, 32, 32)).to("cpu", F64)
    graph, images = trace(classifier), images_for(classifier, 30)
    point = InputBall(Norm.LINF, images.pixels, torch.zeros(30, dtype=F64))
    logits = classifier.predict(images.pixels)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, images.labels[:, None], False)
    exact = (logits.gather(1, images.labels[:, None]) - logits)[others].view(30, -1)
    short = Graph(graph.nodes, F64, torch.float32)
    least = interval_margins(short, propagated(short, point), point, images.labels)
    assert (least <= exact).all()
    assert (exact - least).max() < 1e-2
