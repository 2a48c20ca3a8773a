"""Modules of torch that do what functions of weights and settings do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SELU = 1.6732632423543772, 1.0507009873554805
"""alpha and the scale, by which torch writes it as an ELU."""
Maker = Callable[..., nn.Module]


def _with(module: nn.Module, **weights: Tensor | None) -> nn.Module:
    """A module that was made without memory, with its weights."""
    for name, weight in weights.items():
        setattr(module, name, None if weight is None else nn.Parameter(weight.detach(), requires_grad=False))
    return module


def made_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    with torch.device("meta"):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _with(module, weight=weight, bias=bias)


def made_addmm(
    input: Tensor | None = None, *, mat2: Tensor, beta: float = 1, alpha: float = 1, **own: Any
) -> nn.Module:
    bias = own.get("self", input)
    if beta != 1 or alpha != 1 or bias is None or bias.dim() != 1:
        raise ValueError
    return made_linear(mat2.t(), bias)


def made_product(**own: Tensor) -> nn.Module:
    ((_, other),) = own.items()
    if other.dim() != 2:
        raise ValueError
    return made_linear(other.t())


def made_conv(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    transposed: bool = False,
    output_padding: Any = 0,
    **_: bool,
) -> nn.Module:
    if transposed:
        return made_conv_transpose(weight, bias, stride, padding, output_padding, groups, dilation)
    make: Any = {3: nn.Conv1d, 4: nn.Conv2d}[weight.dim()]
    sizes = (weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]))
    steps = (_few(stride), padding if isinstance(padding, str) else _few(padding), _few(dilation))
    with torch.device("meta"):
        module = make(*sizes, *steps, groups, bias is not None)
    return _with(module, weight=weight, bias=bias)


def made_conv_transpose(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> nn.Module:
    make: Any = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d}[weight.dim()]
    sizes = (weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]))
    steps = (_few(stride), _few(padding), _few(output_padding), groups, bias is not None, _few(dilation))
    with torch.device("meta"):
        module = make(*sizes, *steps)
    return _with(module, weight=weight, bias=bias)


def _few(value: Any) -> Any:
    """Numbers for the axes of a plane, as functions take them: one for all, or a list of one or more."""
    if isinstance(value, int):
        return value
    values = tuple(int(v) for v in value)
    return values[0] if len(values) == 1 else values


def made_batch_norm(
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    **_: bool,
) -> nn.Module:
    with torch.device("meta"):
        module = nn.BatchNorm2d(len(running_mean), eps)
    module.running_mean, module.running_var = running_mean.detach(), running_var.detach()
    return _with(module, weight=weight, bias=bias).train(training)


def pool_maker(make: Any) -> Maker:
    def made(kernel_size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **own: Any) -> nn.Module:
        if own.pop("return_indices", False):
            raise ValueError
        steps = _few(stride) if stride else None
        settings = {name: _few(v) if name == "dilation" else v for name, v in own.items()}
        module: nn.Module = make(_few(kernel_size), steps, _few(padding), *rest, **settings)
        return module

    return made


def made_dropout(p: float = 0.5, training: bool = True, train: bool | None = None) -> nn.Module:
    return nn.Dropout(p).train(training if train is None else train)


def made_clamp(min: float | None = None, max: float | None = None) -> nn.Module:
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return nn.ReLU() if (low, high) == (0, math.inf) else nn.Hardtanh(low, high)


def made_hard_tanh(min_val: float = -1.0, max_val: float = 1.0) -> nn.Module:
    return nn.Hardtanh(float(min_val), float(max_val))


def made_rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, **_: object) -> nn.Module:
    return nn.RReLU(lower, upper).train(training)


def made_prelu(weight: Tensor) -> nn.Module:
    return _with(nn.PReLU(weight.numel()), weight=weight)


def made_elu(alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> nn.Module:
    if input_scale != 1 or (scale != 1 and (alpha, scale) != SELU):
        raise ValueError
    return nn.SELU() if scale != 1 else nn.ELU(alpha)
