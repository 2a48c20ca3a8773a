"""Branch and bound where the exact distance is known: by enumeration, and by mixed-integer programming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import oracles
from referee import exact_linf
from robusteval.certify.base import CertificateResult
from robusteval.certify.branching.beta_crown import BetaCROWN
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier

ROOM = 1e-5
"""Of float32 in what the network answers, and of the solvers."""


def held(found: CertificateResult, exact: np.ndarray) -> None:
    """No bound on the wrong side of the exact distances, and all within the tolerance."""
    lower, upper = found.radius.numpy(), found.measurements["witness_distance", 0.0].numpy()
    assert (lower <= exact * (1 + ROOM)).all()
    assert (upper >= exact * (1 - ROOM)).all()
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
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
        last = network[-1]
        assert isinstance(last, nn.Linear)
        last.bias.sub_(network(torch.rand(50, 1, 3, 3)).mean(0))
    classifier = make_classifier("dense", network, (1, 3, 3))
    images = oracles.random_images(seed, 4, classifier)
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]
    pairs = zip(images.pixels.double().flatten(1).numpy(), images.labels.tolist(), strict=True)
    exact = np.array([exact_linf(layers, x, label) for x, label in pairs])
    held(BetaCROWN(norm=Norm.LINF)(classifier, images.pixels, images.labels), exact)
