"""What is held at a time: bounds do not depend on it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import oracles
from propagating import F64, SHAPE, images_for, proven, small
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.base import LARGEST
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ibp import IBP
from robusteval.core import memory
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


def test_small_pieces_give_the_same_bounds() -> None:
    classifier = small("pooled", F64)
    images = images_for(classifier, 2)
    whole = proven("crown", Norm.L2, classifier, images)
    for numbers in (2**13, 1):
        with memory.at_most(numbers):
            assert (proven("crown", Norm.L2, classifier, images) - whole).abs().max() < 1e-9


def test_windows_that_see_nothing_but_padding_are_no_trouble() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3)
    )
    classifier = make_classifier("padded", network, SHAPE)
    images = images_for(classifier, 2)
    whole = proven("crown", Norm.LINF, classifier, images)
    assert (whole > proven("ibp", Norm.LINF, classifier, images)).all()
    with memory.at_most(2**10):
        assert torch.allclose(proven("crown", Norm.LINF, classifier, images), whole, rtol=0.02)


def test_no_more_images_are_held_at_a_time_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, margins = [], IBP.margins

    def spied(self: IBP, graph: Graph, ball: InputBall, labels: Tensor) -> Tensor:
        seen.append(len(ball.x))
        return margins(self, graph, ball, labels)

    monkeypatch.setattr(IBP, "margins", spied)
    classifier, _, _ = oracles.affine(3)
    assert (proven("ibp", Norm.LINF, classifier, oracles.random_images(1, 3 * LARGEST, classifier)) > 0).all()
    assert max(seen) == LARGEST
