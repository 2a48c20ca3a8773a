"""Operators of ONNX that are layers with weights, poolings and activations: what they are as modules of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.errors import UserError
from robusteval.models.onnx.building import Builder, Operand, Value
from robusteval.models.onnx.file import Operation
from robusteval.models.onnx.operands import Make, axis_in, constant_in, given, optional, reshaped, sizes_of

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAXIMA: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGES: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_GLOBAL: dict[int, type[nn.Module]] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_NORMS: dict[int, type[nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def weighted(module: nn.Module, **weights: Tensor | None) -> nn.Module:
    """A module, made without memory, with these weights."""
    for name, value in weights.items():
        if value is not None:
            setattr(module, name, nn.Parameter(value.clone().contiguous(), requires_grad=False))
    return module


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """x W^T + b for a weight (out, in)."""
    with torch.device("meta"):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    weighted(module, weight=weight, bias=bias)
    return module


def _sides(op: Operation, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Padding before and after on each axis of the plane."""
    rank, auto = len(kernel), op.settings.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = op.settings.get("pads", (0,) * 2 * rank)
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        return ((0, 0),) * rank
    strides, dilations = _steps(op, rank, "strides"), _steps(op, rank, "dilations")
    found = []
    for size, k, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
        small = total // 2
        found.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    return tuple(found)


def _steps(op: Operation, rank: int, name: str) -> tuple[int, ...]:
    return tuple(op.settings.get(name, (1,) * rank))


def _padded(
    build: Builder, x: Operand, sides: tuple[tuple[int, int], ...], value: float = 0.0
) -> tuple[Operand, tuple[int, ...]]:
    """What is left to pad for a layer that pads both sides alike; the rest is a step of its own."""
    if all(a == b for a, b in sides):
        return x, tuple(a for a, _ in sides)
    laid = tuple(size for pair in reversed(sides) for size in pair)
    return build.call(functional.pad, x, laid, value=value), (0,) * len(sides)


def _conv(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, weight, bias = given(inputs, 0), constant_in(given(inputs, 1)), constant_in(optional(inputs, 2))
    assert weight is not None
    kernel, rank, groups = tuple(weight.shape[2:]), weight.dim() - 2, op.settings.get("group", 1)
    if rank not in _CONVOLUTIONS:
        raise UserError(f"expected a convolution of 1 to 3 axes, got {rank}")
    x, padding = _padded(build, x, _sides(op, sizes_of(x)[2:], kernel))
    make: Any = _CONVOLUTIONS[rank]
    with torch.device("meta"):
        module = make(
            weight.shape[1] * groups,
            weight.shape[0],
            kernel,
            _steps(op, rank, "strides"),
            padding,
            _steps(op, rank, "dilations"),
            groups,
            bias is not None,
        )
    return build.layer(weighted(module, weight=weight, bias=bias), x)


def _conv_transpose(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, weight, bias = given(inputs, 0), constant_in(given(inputs, 1)), constant_in(optional(inputs, 2))
    assert weight is not None
    kernel, rank, groups = tuple(weight.shape[2:]), weight.dim() - 2, op.settings.get("group", 1)
    sides = _sides(op, sizes_of(x)[2:], kernel)
    if rank not in _TRANSPOSED or any(a != b for a, b in sides) or "output_shape" in op.settings:
        raise UserError("expected a transposed convolution with equal padding on both sides")
    more = tuple(op.settings.get("output_padding", (0,) * rank))
    steps, dilations = _steps(op, rank, "strides"), _steps(op, rank, "dilations")
    with torch.device("meta"):
        module = _TRANSPOSED[rank](
            weight.shape[0],
            weight.shape[1] * groups,
            kernel,
            steps,
            tuple(a for a, _ in sides),
            more,
            groups,
            bias is not None,
            dilations,
        )
    return build.layer(weighted(module, weight=weight, bias=bias), x)


def _gemm(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    """alpha A' B' + beta C."""
    x, alpha, beta = given(inputs, 0), op.settings.get("alpha", 1.0), op.settings.get("beta", 1.0)
    weight, shift = constant_in(given(inputs, 1)), constant_in(optional(inputs, 2))
    assert weight is not None
    if op.settings.get("transA", 0):
        x = build.call(torch.transpose, x, 0, 1)
    weight = weight if op.settings.get("transB", 0) else weight.T
    weight = weight if alpha == 1 else alpha * weight
    shift = shift if shift is None or beta == 1 else beta * shift
    if shift is not None and (shift.dim() > 1 and shift.shape[0] != 1):
        return build.call(torch.add, build.layer(linear(weight), x), shift)
    if shift is not None:
        shift = shift.reshape(-1).expand(weight.shape[0])
    return build.layer(linear(weight, shift), x)


def _matmul(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, y = given(inputs, 0), given(inputs, 1)
    if isinstance(x, Value) and isinstance(y, Tensor) and y.dim() == 2:
        return build.layer(linear(y.T), x)
    return build.call(torch.matmul, x, y)


def _batch_norm(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    scale, shift, mean, var = (constant_in(given(inputs, k)) for k in range(1, 5))
    assert mean is not None
    assert var is not None
    rank = len(sizes_of(x)) - 2
    if op.settings.get("training_mode", 0) or rank not in _NORMS:
        raise UserError(
            "expected batch normalisation by given statistics of values with 0 to 3 axes after the channels"
        )
    make: Any = _NORMS[rank]
    module = make(len(mean), eps=op.settings.get("epsilon", 1e-5), dtype=mean.dtype)
    weighted(module, weight=scale, bias=shift)
    module.running_mean, module.running_var = mean.clone(), var.clone()
    return build.layer(module, x)


def _pooling(op: Operation, x: Operand) -> tuple[int, tuple[int, ...], tuple[int, ...], bool]:
    if len([name for name in op.outputs if name]) > 1:
        raise UserError("expected pooling with one output, got one with places too")
    kernel = tuple(op.settings["kernel_shape"])
    return len(kernel), kernel, _steps(op, len(kernel), "strides"), bool(op.settings.get("ceil_mode", 0))


def _max_pool(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    rank, kernel, strides, ceil = _pooling(op, x)
    dilations = _steps(op, rank, "dilations")
    x, padding = _padded(build, x, _sides(op, sizes_of(x)[2:], kernel), -torch.inf)
    make: Any = _MAXIMA[rank]
    return build.layer(make(kernel, strides, padding, dilations, ceil_mode=ceil), x)


def _average_pool(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    rank, kernel, strides, ceil = _pooling(op, x)
    sides = _sides(op, sizes_of(x)[2:], kernel)
    counted = bool(op.settings.get("count_include_pad", 0)) or not any(map(any, sides))
    if any(d != 1 for d in _steps(op, rank, "dilations")) or (not counted and any(a != b for a, b in sides)):
        raise UserError(
            "expected average pooling without dilation, and equal padding on both sides where it is not counted"
        )
    x, padding = _padded(build, x, sides)
    make: Any = _AVERAGES[rank]
    return build.layer(make(kernel, strides, padding, ceil, counted), x)


def _global_average(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    make: Any = _GLOBAL[len(sizes_of(x)) - 2]
    return build.layer(make(1), x)


def _global_max(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    return build.call(torch.amax, x, tuple(range(2, len(sizes_of(x)))), keepdim=True)


def _layer_norm(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, scale, shift = given(inputs, 0), constant_in(given(inputs, 1)), constant_in(optional(inputs, 2))
    axis = axis_in(op.settings.get("axis", -1), len(sizes_of(x)))
    sizes, epsilon = sizes_of(x)[axis:], op.settings.get("epsilon", 1e-5)
    return build.call(functional.layer_norm, x, sizes, scale, shift, epsilon)


def _instance_norm(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, scale, shift = given(inputs, 0), constant_in(given(inputs, 1)), constant_in(given(inputs, 2))
    return build.call(
        functional.instance_norm, x, None, None, scale, shift, True, 0.1, op.settings.get("epsilon", 1e-5)
    )


def _lrn(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    settings = op.settings
    alpha, beta, bias = settings.get("alpha", 1e-4), settings.get("beta", 0.75), settings.get("bias", 1.0)
    if settings["size"] % 2 == 0:
        raise UserError(f"expected local response normalisation over an odd size, got {settings['size']}")
    return build.layer(nn.LocalResponseNorm(settings["size"], alpha, beta, bias), given(inputs, 0))


def _depth_to_space(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, size = given(inputs, 0), op.settings["blocksize"]
    n, channels, height, width = sizes_of(x)
    split = (
        (size, size, channels // size**2)
        if op.settings.get("mode", "DCR") == "DCR"
        else (channels // size**2, size, size)
    )
    order = (0, 3, 4, 1, 5, 2) if op.settings.get("mode", "DCR") == "DCR" else (0, 1, 4, 2, 5, 3)
    parted = reshaped(build, x, (n, *split, height, width))
    return reshaped(
        build, build.call(torch.permute, parted, order), (n, channels // size**2, height * size, width * size)
    )


LAYERS: dict[str, Make] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "DepthToSpace": _depth_to_space,
}
