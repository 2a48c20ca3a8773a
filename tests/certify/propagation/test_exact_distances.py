"""Proofs by bound propagation where the exact distance is known."""

from __future__ import annotations

import numpy as np
import pytest

import oracles
from propagating import proven
from robusteval.core.norms import BALLS, Norm

TOLERANCE = 1e-3


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", ["ibp", "crown"])
def test_affine_networks_get_their_exact_distance(name: str, norm: Norm) -> None:
    classifier, weight, bias = oracles.affine(3)
    images = oracles.random_images(1, 20, classifier)
    ratio = proven(name, norm, classifier, images, tolerance=TOLERANCE).numpy()
    ratio = ratio / oracles.affine_distances(weight, bias, images, norm)
    assert (ratio <= 1).all()
    # The float32 allowance costs up to 2e-3 of the smallest distances.
    assert (ratio > 1 - TOLERANCE - 3e-3).all()


@pytest.mark.parametrize("seed", range(3))
def test_two_layer_networks_are_never_certified_beyond_the_exact_distance(seed: int) -> None:
    classifier, parameters = oracles.two_layer(seed)
    images = oracles.random_images(1, 5, classifier)
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([oracles.two_layer_linf(parameters, x, label) for x, label in pairs])
    for name, least in (("ibp", 0.3), ("crown", 0.5)):
        ratio = proven(name, Norm.LINF, classifier, images, tolerance=TOLERANCE).numpy() / np.minimum(exact, 1)
        assert (ratio <= 1).all()
        assert (ratio > least).all()
