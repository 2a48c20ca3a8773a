"""Layers of torch -> layers that bounds pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import TensorMetadata
from torch.nn.modules.batchnorm import _BatchNorm

from robusteval.certify.propagation.ops import Max, Op, Reshape, Scale
from robusteval.certify.propagation.places import Shape, Windows
from robusteval.certify.propagation.weighted import Conv2d, Linear
from robusteval.core.errors import UnsupportedError

SUPPORTED = (
    "Linear, Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Dropout, Identity, sums of two "
    "values, concatenation of channels, arithmetic with constants but c / x"
)


def unsupported(node: fx.Node, what: str) -> UnsupportedError:
    name = str(node.target) if node.op == "call_module" else node.name
    return UnsupportedError(f"expected only layers that bounds can pass through ({SUPPORTED}), got {what} at '{name}'")


def shape_of(node: fx.Node) -> Shape:
    """The shape of one image's value: (C, H, W), flat features as (F, 1, 1)."""
    meta = node.meta.get("tensor_meta")
    if not isinstance(meta, TensorMetadata) or not 2 <= len(meta.shape) <= 4 or meta.shape[0] != 2:
        found = tuple(meta.shape) if isinstance(meta, TensorMetadata) else "something else"
        raise unsupported(node, f"not one value (N, F) or (N, C, H, W) but {found}")
    image = next(other.meta["tensor_meta"] for other in node.graph.nodes if other.op == "placeholder")
    if meta.dtype != image.dtype:
        raise unsupported(node, f"a value of type {meta.dtype} from images of type {image.dtype}")
    if not meta.shape.numel():
        raise unsupported(node, "a value without entries")
    channels, height, width = (*meta.shape[1:], 1, 1)[:3]
    return channels, height, width


def is_nothing(module: nn.Module) -> bool:
    """Whether the layer does nothing in eval mode."""
    return type(module) is nn.Identity or (type(module) in _DROPOUTS and not module.training)


def from_module(node: fx.Node, module: nn.Module, before: Shape, after: Shape) -> Op:
    """The layer of a module that takes a value of shape `before` and gives one of shape `after`."""
    for kind, make in _MODULES.items():
        # A subclass may compute anything else.
        if type(module) is kind:
            op = make(module, before, after)
            if op is None:
                raise unsupported(node, f"{type(module).__name__} with these settings: {module}")
            return op
    raise unsupported(node, f"layer of type {type(module).__name__}")


def _column(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().double().reshape(-1, 1, 1)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _linear(module: nn.Linear, before: Shape, after: Shape) -> Op | None:
    if before[1:] != (1, 1) or before[0] != module.in_features:
        return None
    return Linear(module.weight.detach().double().contiguous(), _column(module.bias))


def _conv(module: nn.Conv2d, before: Shape, after: Shape) -> Op | None:
    kernel, stride, dilation = _pair(module.kernel_size), _pair(module.stride), _pair(module.dilation)
    if module.padding == "valid":
        padding = (0, 0)
    elif module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(span % 2 for span in spans):
            return None
        padding = (spans[0] // 2, spans[1] // 2)
    else:
        padding = _pair(module.padding)
    if module.padding_mode != "zeros":
        return None
    view = Windows(kernel, stride, padding, dilation, before[1:])
    return Conv2d(module.weight.detach().double().contiguous(), _column(module.bias), view, module.groups)


def _batch_norm(module: _BatchNorm, before: Shape, after: Shape) -> Op | None:
    """(x - mean) / sqrt(var + eps) * w + b: eight roundings in the longest of the usual ways to compute it; 16 leave
    room for square roots that are a few units off."""
    if module.training or module.running_mean is None or module.running_var is None:
        return None
    mean, var = module.running_mean.detach().double(), module.running_var.detach().double()
    scale = 1 / (var + module.eps).sqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach().double()
    bias = torch.zeros_like(mean) if module.bias is None else module.bias.detach().double()
    shift, size = bias - mean * scale, bias.abs() + (mean * scale).abs()
    scale, shift, size = (v.reshape(-1, 1, 1).expand(before) for v in (scale, shift, size))
    return Scale(scale, shift, size, roundings=16)


def _averaging(channels: int, view: Windows) -> Op:
    """Average pooling is a convolution of each channel with equal weights; padding counts as zeros."""
    entries = view.kernel[0] * view.kernel[1]
    weight = torch.full((channels, 1, *view.kernel), 1 / entries, dtype=torch.float64)
    return Conv2d(weight, None, view, groups=channels)


def _average_pool(module: nn.AvgPool2d, before: Shape, after: Shape) -> Op | None:
    kernel, padding = _pair(module.kernel_size), _pair(module.padding)
    stride = _pair(module.stride if module.stride is not None else module.kernel_size)
    uncounted = padding != (0, 0) and not module.count_include_pad
    if module.ceil_mode or module.divisor_override is not None or uncounted:
        return None
    return _averaging(before[0], Windows(kernel, stride, padding, (1, 1), before[1:]))


def _adaptive_pool(module: nn.AdaptiveAvgPool2d, before: Shape, after: Shape) -> Op | None:
    if any(whole % part for whole, part in zip(before[1:], after[1:], strict=True)):
        return None
    kernel = (before[1] // after[1], before[2] // after[2])
    return _averaging(before[0], Windows(kernel, kernel, (0, 0), (1, 1), before[1:]))


def _relu(module: nn.ReLU, before: Shape, after: Shape) -> Op:
    return Max(Windows((1, 1), (1, 1), (0, 0), (1, 1), before[1:]), floor=True)


def _max_pool(module: nn.MaxPool2d, before: Shape, after: Shape) -> Op | None:
    stride = _pair(module.stride if module.stride is not None else module.kernel_size)
    if module.ceil_mode or module.return_indices or _pair(module.dilation) != (1, 1):
        return None
    return Max(Windows(_pair(module.kernel_size), stride, _pair(module.padding), (1, 1), before[1:]), floor=False)


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MODULES: dict[type[nn.Module], Callable[[Any, Shape, Shape], Op | None]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.Flatten: lambda module, before, after: Reshape(before, after),
    nn.Unflatten: lambda module, before, after: Reshape(before, after),
}
