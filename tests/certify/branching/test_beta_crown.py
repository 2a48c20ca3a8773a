"""Branch and bound where the exact distance is known: by enumeration, and by mixed-integer programming."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import oracles
from referee import ROOM, exact_linf, network_of
from robusteval.certify.base import CertificateResult
from robusteval.certify.branching.beta_crown import BetaCROWN
from robusteval.certify.propagation.crown import CROWN
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


def held(found: CertificateResult, exact: np.ndarray) -> None:
    """No bound on the wrong side of the exact distances, and all within the tolerance."""
    lower, upper = found.radius.numpy(), found.measurements["witness_distance", 0.0].numpy()
    assert (lower <= exact + ROOM * (0.1 + exact)).all()
    assert (upper >= exact - ROOM * (0.1 + exact)).all()
    assert (found.measurements["exact", 0.0] == 1).all()
    assert (upper <= 1.01 * lower).all()


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_enumeration(seed: int) -> None:
    classifier, parameters = oracles.two_layer(seed)
    images = oracles.random_images(1, 5, classifier)
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([oracles.two_layer_linf(parameters, x, label) for x, label in pairs])
    held(BetaCROWN(norm=Norm.LINF)(classifier, images.pixels, images.labels), exact)


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_mixed_integer_programming(seed: int) -> None:
    classifier, layers = network_of(seed)
    images = oracles.random_images(seed, 4, classifier)
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([exact_linf(layers, x, label) for x, label in pairs])
    held(BetaCROWN(norm=Norm.LINF)(classifier, images.pixels, images.labels), exact)


def test_every_ball_that_is_asked_is_proven_or_broken() -> None:
    classifier, parameters = oracles.two_layer(1)
    images = oracles.random_images(1, 5, classifier)
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([oracles.two_layer_linf(parameters, x, label) for x, label in pairs])
    asked = np.array([0.01, 0.02, 0.1, 0.2, 0.3])
    found = BetaCROWN(norm=Norm.LINF, at=tuple(asked))(classifier, images.pixels, images.labels)
    proven = (asked[None] < exact[:, None]).sum(1)
    np.testing.assert_array_equal(found.radius.numpy(), np.append(0.0, asked)[proven])
    broken = found.measurements["witness_distance", 0.0].numpy()
    assert (broken <= np.append(asked, np.inf)[proven]).all()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.LINF])
def test_what_is_no_relu_is_left_whole(norm: Norm) -> None:
    """Leaves in which no ReLU is left to split have a curve in them; the proof is never below CROWN's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3))
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(5)
        network[-1].bias -= network(torch.full((1, 1, 3, 3), 0.5))[0]
    classifier = make_classifier("curved", network.eval(), (1, 3, 3))
    images = oracles.random_images(0, 6, classifier)
    found = BetaCROWN(norm=norm, domains=60)(classifier, images.pixels, images.labels)
    plain = CROWN(norm=norm)(classifier, images.pixels, images.labels)
    assert (found.radius >= plain.radius).all()
    assert (found.radius > 1.001 * plain.radius).any()
    assert (found.measurements["domains", 0.0] > 0).any()
    witnessed = found.measurements["witness_distance", 0.0]
    assert (witnessed[witnessed.isfinite()] > found.radius[witnessed.isfinite()]).all()


@pytest.mark.parametrize("settings", [{}, {"padding": 1}, {"ceil_mode": True}, {"stride": 1}])
def test_every_pooling_is_split_or_left_whole(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 2, padding=1), nn.MaxPool2d(2, **settings), nn.Conv2d(2, 3, 2), nn.Flatten(), nn.LazyLinear(3)
    )
    with torch.no_grad():
        network[-1].bias -= network(torch.full((1, 1, 6, 6), 0.5))[0]
    classifier = make_classifier("pooled", network.eval(), (1, 6, 6))
    images = oracles.random_images(0, 4, classifier)
    found = BetaCROWN(norm=Norm.LINF, domains=40)(classifier, images.pixels, images.labels)
    assert (found.radius >= CROWN(norm=Norm.LINF)(classifier, images.pixels, images.labels).radius).all()
    witnessed = found.measurements["witness_distance", 0.0]
    assert witnessed.isfinite().any()
    assert (witnessed[witnessed.isfinite()] > found.radius[witnessed.isfinite()]).all()
