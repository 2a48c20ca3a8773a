"""Branch and bound where the exact distance is known: by enumeration, and by mixed-integer programming."""

from __future__ import annotations

import numpy as np
import pytest

import oracles
from referee import ROOM, exact_linf, network_of
from robusteval.certify.base import CertificateResult
from robusteval.certify.branching.beta_crown import BetaCROWN
from robusteval.core.norms import Norm


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
