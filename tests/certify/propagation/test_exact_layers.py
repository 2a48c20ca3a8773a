"""Layers that leave the exact distance as it is: moved and padded images, and activations that rise everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import oracles
from layered import Applied
from propagating import proven
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier

SHAPE = (1, 8, 8)
MOVED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "turned": (lambda x: x.transpose(2, 3).flip(2), lambda x: x.flip(2).transpose(2, 3)),
    "rolled": (lambda x: x.roll((3, 1), (2, 3)), lambda x: x.roll((-3, -1), (2, 3))),
    "padded and cropped": (lambda x: functional.pad(x, (2, 1, 0, 3), "reflect")[:, :, :8, 2:-1], lambda x: x),
    "in parts": (lambda x: torch.cat([x[:, :, 4:], x[:, :, :4]], 2), lambda x: x.roll(4, 2)),
    "twice less once": (lambda x: 2 * x - x, lambda x: x),
}
"""What a network does to the images, and what is done to them before so that it sees them as they are."""
RISING: dict[str, nn.Module] = {
    "leaky relu": nn.LeakyReLU(0.2),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "elu": nn.ELU(0.5),
    "selu": nn.SELU(),
    "log sigmoid": nn.LogSigmoid(),
    "soft sign": nn.Softsign(),
}


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", MOVED)
def test_moved_entries_leave_exact_distances(name: str, norm: Norm) -> None:
    plain, weight, bias = oracles.affine(3)
    images = oracles.random_images(1, 10, plain)
    exact = torch.from_numpy(oracles.affine_distances(weight, bias, images, norm))
    there, back = MOVED[name]
    network = nn.Sequential(Applied(there), plain.module)
    moved = replace(images, content=back(images.pixels).contiguous())
    ratio = proven("crown", norm, make_classifier(name, network, SHAPE), moved, tolerance=1e-3) / exact
    assert (ratio <= 1).all()
    assert (ratio > 1 - 6e-3).all()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("name", RISING)
def test_what_rises_everywhere_leaves_the_distance(name: str, norm: Norm) -> None:
    """Logits keep their order, so that the distance is that of the affine network: no more is proven, nor much less."""
    plain, weight, bias = oracles.affine(3)
    images = oracles.random_images(1, 10, plain)
    exact = torch.from_numpy(oracles.affine_distances(weight, bias, images, norm))
    network = nn.Sequential(plain.module, Applied(lambda x: 0.1 * x), RISING[name])
    for method, least in (("ibp", 0.2), ("crown", 0.6)):
        ratio = proven(method, norm, make_classifier(name, network, SHAPE), images) / exact
        assert (ratio <= 1).all()
        assert ratio.median() > least
