"""The search for the largest radius, alone and in networks where there is nothing or everything to find."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from propagating import F64, SHAPE, images_for, proven, small
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.radius_search import largest_radius
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


@given(
    seed=st.integers(0, 10**6),
    power=st.floats(1, 6),
    factor=st.floats(-4, 4),
    tolerance=st.sampled_from([0.1, 0.01, 1e-4]),
)
@settings(max_examples=25, deadline=None)
def test_the_search_ends_within_its_tolerance(seed: int, power: float, factor: float, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = 10 ** (-4 * torch.rand(9, generator=generator, dtype=F64))
    calls = torch.zeros(9)

    def margin(rows: Tensor, radius: Tensor) -> Tensor:
        calls[rows] += 1
        share = radius / truth[rows]
        return 1 - 0.3 * share - 0.7 * share**power

    clean, reach = torch.ones(9, dtype=F64), torch.full((9,), 10.0, dtype=F64)
    found = largest_radius(margin, clean, truth * 10**factor, reach, tolerance)
    assert (found <= truth).all()
    assert (found >= truth * (1 - 1.01 * tolerance)).all()
    assert calls.max() <= 20


def test_the_search_stops_where_there_is_nothing_to_find() -> None:
    clean = torch.tensor([-1.0, math.nan, 1.0, 1.0, 1.0], dtype=F64)
    answers = torch.tensor([1.0, 1.0, -1.0, math.nan, 1.0], dtype=F64)
    start, reach = torch.full((5,), 0.01, dtype=F64), torch.full((5,), 2.0, dtype=F64)
    found = largest_radius(lambda rows, radius: answers[rows], clean, start, reach, 0.01)
    assert found.tolist() == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["ibp", "crown", "lipschitz"])
def test_a_broken_network_is_not_certified(name: str, broken: float) -> None:
    for network in ("dense", "pooled"):
        classifier = small(network)
        images = images_for(classifier, 5)
        with torch.no_grad():
            weight = next(p for n, p in classifier.module.named_parameters() if n.endswith("weight"))
            weight[(0,) * weight.dim()] = broken
        assert (proven(name, Norm.L2, classifier, images) == 0).all()


def test_a_network_that_says_one_thing_everywhere_is_certified_to_the_end_of_the_box() -> None:
    layer = nn.Linear(128, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    classifier = make_classifier("constant", nn.Sequential(nn.Flatten(), layer), SHAPE)
    images = images_for(classifier, 4)
    for name in ("ibp", "crown", "lipschitz"):
        reach = Norm.L2.size(torch.maximum(images.pixels, 1 - images.pixels).double())
        assert torch.allclose(proven(name, Norm.L2, classifier, images), reach)


def test_crown_is_a_settings_class() -> None:
    assert CROWN(norm=Norm.L2).affordable == 10**8
    assert "PROOF" in (CROWN.__doc__ or "")
