"""What the tests of defenses share: small float64 networks, batches that draw the same again, finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from robusteval.defenses.base import Batch, Carried, Defense

F64 = torch.float64
STEP = 1e-6
"""Of a finite difference in the weights."""
CLOSE = 1e-6
"""How far a central difference may be from the gradient: losses of order one are known to about 1e-14 (a finite
difference in the pixels, or a squared sum), over STEP 1e-8; the third derivative times STEP squared is less. A hundred
times that; the gradients themselves are of order 0.01 to 1."""


def conv_net(seed: int = 3, channels: int = 1, side: int = 4, classes: int = 3) -> nn.Sequential:
    """Convolution, ReLU, linear."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * side * side, classes)
    ).double()


def dense_net(pixels: int, hidden: int, classes: int, seed: int = 0) -> nn.Sequential:
    """Two linear layers with a ReLU between them."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, classes)).double()


def affine_net(pixels: int, classes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).double()


def linear(network: nn.Module, at: int) -> nn.Linear:
    """A layer of a sequence."""
    layer = network.get_submodule(str(at))
    assert isinstance(layer, nn.Linear)
    return layer


def a_batch(n: int = 5, shape: tuple[int, int, int] = (1, 4, 4), classes: int = 3, seed: int = 0) -> Batch:
    """The same images, labels and draws whenever it is called with the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(n, *shape, generator=generator, dtype=F64)
    labels = torch.randint(classes, (n,), generator=generator)
    return Batch(pixels, labels, torch.Generator().manual_seed(seed + 100))


def begun(defense: Defense, network: nn.Module, batch: Batch) -> Carried:
    return defense.begin(network, batch.pixels, torch.Generator().manual_seed(7))


def gradient_left(defense: Defense, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Tensor, Carried]:
    """The loss, the gradient that `backward` leaves in the weights, flat, and the next state."""
    network.zero_grad(set_to_none=True)
    loss, after = defense.backward(network, batch, state)
    return loss, gradient_of(network), after


def gradient_of(network: nn.Module) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters()])


def differences(value: Callable[[], Tensor], network: nn.Module) -> Tensor:
    """The gradient of a value in all weights, by central differences."""
    at = parameters_to_vector(network.parameters()).detach().clone()
    found = torch.zeros_like(at)
    for i in range(len(at)):
        for sign in (1, -1):
            moved = at.clone()
            moved[i] += sign * STEP
            vector_to_parameters(moved, network.parameters())
            found[i] += sign * value().detach() / (2 * STEP)
    vector_to_parameters(at, network.parameters())
    return found


def pixel_gradients(network: nn.Module, batch: Batch) -> Tensor:
    """The gradient of each image's cross-entropy in its pixels, (N, C, H, W), one image at a time."""
    found = []
    for pixels, label in zip(batch.pixels, batch.labels, strict=True):
        x = pixels[None].clone().requires_grad_()
        loss = -network(x).log_softmax(1)[0, label]
        found.append(torch.autograd.grad(loss, x)[0])
    return torch.cat(found)
