"""Global spectral norm regularization (Yoshida & Miyato 2017; OpNorm, Eq. 4 and 5)."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.errors import UnsupportedError
from robusteval.defenses.base import Batch, Carried, Defense, losses, statistics_kept


class GlobalSpectralNorm(Defense):
    """CE + weight / 2 * sum over layers of sigma(W)^2, sigma the largest singular value of the layer.

    Dense layers are matrices; a convolution is the linear operator that it is on inputs of its size, its padding and
    stride included. The vectors persist: one step of the power method an update (Eq. 4). The gradient is
    weight * sigma * u v^T.
    """

    name = "global-spectral-norm"
    title = "Global spectral norm"
    summary = "sum of the layers' squared spectral norms (Yoshida & Miyato 2017; OpNorm, Eq. 5)"

    weight: NonNegativeFloat = 0.01
    """lambda."""

    @property
    def says(self) -> str:
        return f", lambda {self.weight:g}"

    def begin(self, network: nn.Module, pixels: Tensor, generator: torch.Generator) -> Carried:
        """A random unit vector for each layer, of the shape of one input."""
        shapes: dict[str, tuple[int, ...]] = {}

        def seen(name: str, inputs: tuple[Tensor, ...]) -> None:
            shapes[name] = tuple(inputs[0].shape[1:])

        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen(name, inputs))
            for name, layer in linear_layers(network).items()
        ]
        try:
            with torch.no_grad(), statistics_kept(network):
                network(pixels[:2])
        finally:
            for hook in hooks:
                hook.remove()
        if not shapes:
            raise UnsupportedError("expected a network with torch.nn.Linear or torch.nn.Conv2d layers, got none")
        vectors = {name: torch.randn(1, *shape, generator=generator).to(pixels) for name, shape in shapes.items()}
        with torch.no_grad():
            for name, v in vectors.items():
                push(linear_layers(network)[name], v)
        return {name: v / v.norm() for name, v in vectors.items()}

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        clean = losses(network(batch.pixels), batch.labels).mean()
        named, after, squares = linear_layers(network), {}, []
        for name, v in state.items():
            layer = named[name]
            with torch.no_grad():
                u = _unit(push(layer, v))
                after[name] = v = _unit(pull(layer, u, v))
            squares.append((u * push(layer, v)).sum().square())
        return clean + self.weight / 2 * torch.stack(squares).sum(), after


Layer = nn.Linear | nn.Conv2d


def linear_layers(network: nn.Module) -> dict[str, Layer]:
    """The layers that the penalty is of, by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


def push(layer: Layer, v: Tensor) -> Tensor:
    """W v of an input (1, ...), without the bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear(v, layer.weight)
    if layer.padding_mode != "zeros":
        raise UnsupportedError(f"expected a convolution with zero padding, got {layer}")
    return functional.conv2d(v, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def pull(layer: Layer, u: Tensor, like: Tensor) -> Tensor:
    """W^T u of an output (1, ...), an input shaped as `like`."""
    with torch.enable_grad():
        x = torch.zeros_like(like).requires_grad_()
        (pulled,) = torch.autograd.grad(push(layer, x), x, u)
    return pulled


def _unit(z: Tensor) -> Tensor:
    unit: Tensor = z / torch.linalg.vector_norm(z).clamp_min(torch.finfo(z.dtype).tiny)
    return unit
