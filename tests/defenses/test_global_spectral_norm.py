"""The persistent power method against singular values of explicit matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from defending import F64, a_batch, begun, conv_net
from robusteval.core.errors import UnsupportedError
from robusteval.defenses.base import Carried, losses
from robusteval.defenses.global_spectral_norm import GlobalSpectralNorm, Layer, linear_layers, pull, push

LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "dense": (nn.Linear(7, 5), (7,)),
    "padded": (nn.Conv2d(1, 2, 3, padding=1), (1, 4, 5)),
    "strided": (nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 5, 4)),
    "dilated": (nn.Conv2d(1, 2, 2, dilation=2, stride=(1, 2)), (1, 5, 5)),
    "grouped": (nn.Conv2d(4, 4, 2, groups=2, padding="same"), (4, 3, 3)),
}


def matrix(layer: Layer, shape: tuple[int, ...]) -> Tensor:
    """The linear map of a layer, (outputs, inputs): what it makes of each unit, less what it makes of zero."""
    size = int(torch.tensor(shape).prod())
    with torch.no_grad():
        units = layer(torch.eye(size, dtype=F64).view(size, *shape)) - layer(torch.zeros(1, *shape, dtype=F64))
    return units.flatten(1).T  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", LAYERS)
def test_push_and_pull_are_the_matrix_and_its_transpose(name: str) -> None:
    layer, shape = LAYERS[name]
    layer = layer.double()
    w, v = matrix(layer, shape), torch.randn(1, *shape, dtype=F64)
    out = push(layer, v)
    assert torch.allclose(out.flatten(), w @ v.flatten(), atol=1e-13)
    u = torch.randn_like(out)
    assert torch.allclose(pull(layer, u, v).flatten(), w.T @ u.flatten(), atol=1e-13)


def frozen_updates(network: nn.Module, defense: GlobalSpectralNorm, updates: int) -> Carried:
    state = begun(defense, network, a_batch())
    for _ in range(updates):
        _, state = defense.objective(network, a_batch(), state)
    return state


def test_with_frozen_weights_the_penalty_becomes_the_sum_of_squared_spectral_norms_and_its_gradient_s_u_v() -> None:
    network, defense = conv_net(), GlobalSpectralNorm(weight=0.6)
    clean = losses(network(a_batch().pixels), a_batch().labels).mean().item()
    state = frozen_updates(network, defense, 300)
    loss, _ = defense.objective(network, a_batch(), state)
    conv, dense = linear_layers(network).values()
    largest = [
        torch.linalg.svdvals(matrix(layer, shape))[0].item() for layer, shape in ((conv, (1, 4, 4)), (dense, (32,)))
    ]
    assert (loss.item() - clean) / 0.3 == pytest.approx(sum(s**2 for s in largest), rel=1e-9)
    # The gradient of the penalty alone, by the singular vectors: weight * sigma * u v^T.
    bare = loss - losses(network(a_batch().pixels), a_batch().labels).mean()
    (gradient,) = torch.autograd.grad(bare, dense.weight)
    u, s, vh = torch.linalg.svd(dense.weight.detach())
    assert torch.allclose(gradient, 0.6 * s[0] * u[:, :1] @ vh[:1], rtol=0, atol=1e-7)


def test_one_update_takes_one_step_of_the_power_method() -> None:
    network, defense = conv_net(), GlobalSpectralNorm()
    before = begun(defense, network, a_batch())
    _, after = defense.objective(network, a_batch(), before)
    w, v = matrix(linear_layers(network)["3"], (32,)), before["3"].flatten()
    moved = w.T @ (w @ v)
    assert torch.allclose(after["3"].flatten(), moved / moved.norm(), atol=1e-13)
    assert float(before["3"].norm()) == pytest.approx(1, rel=1e-7)


def test_layers_that_it_cannot_see_as_matrices_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"torch.nn.Linear or torch.nn.Conv2d layers, got none"):
        begun(GlobalSpectralNorm(), nn.Flatten(), a_batch())
    circular = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()).double()
    with pytest.raises(UnsupportedError, match="zero padding"):
        begun(GlobalSpectralNorm(), circular, a_batch())
