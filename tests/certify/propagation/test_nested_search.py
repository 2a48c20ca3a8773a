"""Radii by a dear bound and what it leaves behind: as large as a plain search finds, and proven."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from propagating import F64, evaluated, images_for, small, steps_within
from robusteval.certify.propagation.ball import InputBall, decline, largest_change
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.intermediate_bounds import Refined, refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.nested_search import nested_radius
from robusteval.certify.propagation.radius_search import largest_radius
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import BALLS, Norm

NETWORKS = ("dense", "pooled", "residual")


@given(
    seed=st.integers(0, 10**6),
    power=st.floats(1.5, 8),
    loose=st.floats(0.05, 2),
    factor=st.floats(-3, 3),
    tolerance=st.sampled_from([0.1, 0.01, 1e-3]),
)
@settings(max_examples=25, deadline=None)
def test_the_search_ends_within_its_tolerance(
    seed: int, power: float, loose: float, factor: float, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = 10 ** (-4 * torch.rand(9, generator=generator, dtype=F64))
    promised = truth * (1 + 5 * torch.rand(9, generator=generator, dtype=F64))
    calls, last = torch.zeros(9), torch.zeros(9, dtype=F64)

    def dear(rows: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        calls[rows] += 1
        last[rows] = radius
        lost = (promised - truth)[rows] * (radius / truth[rows]) ** power
        return promised[rows] - lost - radius, promised[rows] - lost

    def cheap(rows: Tensor, radius: Tensor) -> Tensor:
        assert (radius <= last[rows]).all()
        return truth[rows] - loose * (last[rows] - truth[rows]) - radius

    ones = torch.ones(9, dtype=F64)
    start = truth * 10**factor if factor > 0 else torch.zeros(9, dtype=F64)
    found = nested_radius(dear, cheap, ones, promised, start, 10 * ones, tolerance)
    assert (found <= truth).all()
    assert (found >= truth * (1 - 1.01 * tolerance)).all()
    assert calls.max() <= 25


def test_nothing_and_everything_to_find() -> None:
    clean = torch.tensor([-1.0, torch.nan, 1.0, 1.0, 1.0], dtype=F64)
    answers = torch.tensor([1.0, 1.0, -1.0, torch.nan, 1.0], dtype=F64)
    ones = torch.ones(5, dtype=F64)
    found = nested_radius(
        lambda rows, radius: (answers[rows], -ones[rows]),
        lambda rows, radius: answers[rows],
        clean,
        0 * ones,
        0 * ones,
        2 * ones,
        0.01,
    )
    assert found.tolist() == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_as_large_as_a_plain_search_finds(network: str, norm: Norm) -> None:
    """Each within its tolerance of the largest radius whose bounds are positive, or above by what earlier ones add."""
    classifier = small(network)
    images = images_for(classifier, 5)
    graph, x, labels = trace(classifier), images.pixels.double(), images.labels
    crown = CROWN(norm=norm)
    clean = crown.at_zero(graph, x, labels)
    reach = norm.size(torch.maximum(x, 1 - x))

    def margin(rows: Tensor, radius: Tensor) -> Tensor:
        return crown.margins(graph, InputBall(norm, x[rows], radius), labels[rows]).amin(1)

    plain = largest_radius(margin, clean, 1e-4 * reach, reach, 0.01)
    found = crown.certified(graph, x, labels, clean)
    assert (found >= 0.985 * plain).all()
    assert (found <= 1.1 * plain).all()
    assert (found > 0).any()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_carried_to_smaller_balls_holds_there(network: str, norm: Norm) -> None:
    """Every value inside the network, at random images of the smaller ball, lies in the interval that was carried."""
    classifier = small(network, F64)
    images = images_for(classifier, 3)
    graph, x = trace(classifier), images.pixels.double()
    eps = torch.full((3,), {Norm.LINF: 0.05, Norm.L2: 0.3, Norm.L1: 2.0}[norm], dtype=F64)
    large = refined(graph, InputBall(norm, x, eps), 10**8)
    wide = propagated(graph, large.ball, large)
    assert large.found
    for share in (1.0, 0.7, 0.2):
        inner = Refined(graph, InputBall(norm, x, share * eps), 10**8, large.found, afresh=False)
        known = propagated(graph, inner.ball, inner)
        points = steps_within(norm, share * eps, images, 50)
        values = evaluated(graph, points.flatten(0, 1))
        for k, found in inner.found.items():
            value = values[k].reshape(50, 3, *graph.nodes[k].shape)
            assert ((value >= found.lower) & (value <= found.upper)).all()
            width, before = (i.upper - i.lower for i in (known[k].interval, wide[k].interval))
            assert width.sum() <= before.sum() * (1 + 1e-9)


@pytest.mark.parametrize("norm", BALLS)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_largest_change_falls_at_least_at_that_rate(norm: Norm, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, down, up = torch.rand(3, 4, 6, generator=generator, dtype=F64)
    weight, down[0], up[1] = weight - 0.5, 0.0, 0.0
    eps = 3 * torch.rand(4, generator=generator, dtype=F64) ** 3
    less = largest_change(weight, down, up, share * eps, norm)
    bound = largest_change(weight, down, up, eps, norm)
    rate = decline(weight, down, up, eps, norm)
    assert (rate >= 0).all()
    assert (less <= bound - (1 - share) * eps * rate + 1e-12).all()
