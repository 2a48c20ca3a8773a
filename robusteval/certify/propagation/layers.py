"""Layers of torch -> layers that bounds pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import TensorMetadata
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from robusteval.certify.propagation.along_axes import AlongAxes
from robusteval.certify.propagation.curves import CURVES
from robusteval.certify.propagation.gathering import gathered
from robusteval.certify.propagation.ops import Reshape, Scale
from robusteval.certify.propagation.pieces import Piece, Pieces, on_plane, single
from robusteval.certify.propagation.places import Shape, Windows, plane_of
from robusteval.certify.propagation.pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    max_pool,
)
from robusteval.certify.propagation.rectifiers import RECTIFIERS
from robusteval.certify.propagation.weighted import Conv2d, ConvTranspose2d, Linear
from robusteval.core.errors import UnsupportedError

SUPPORTED = (
    "Linear, Conv and ConvTranspose of one or two axes, BatchNorm, ReLU and what is made of straight pieces, smooth "
    "activations, pooling, padding, permutations, slices, reshapes, means and sums over axes, Dropout, Identity, sums "
    "and differences of two values, concatenation, arithmetic with constants but c / x"
)
_PRODUCT = "a product of values that depend on the image, for which there are no two lines here"
_STATISTICS = "which divides by a statistic of the image: a product of values, for which there are no two lines here"
REFUSED = {
    **dict.fromkeys(("LayerNorm", "GroupNorm", "InstanceNorm2d", "LocalResponseNorm", "RMSNorm"), _STATISTICS),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"), _STATISTICS),
    **dict.fromkeys(("Softmax", "softmax", "LogSoftmax", "log_softmax"), "whose entries are quotients of values"),
    **dict.fromkeys(("MultiheadAttention", "scaled_dot_product_attention", "matmul", "mul", "bmm"), _PRODUCT),
}
"""Why there are no bounds for some layers and functions, by their names."""


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
    return plane_of(meta.shape[1:])


def is_nothing(module: nn.Module) -> bool:
    """Whether the layer does nothing in eval mode."""
    return type(module) is nn.Identity or (type(module) in _DROPOUTS and not module.training)


def from_module(node: fx.Node, module: nn.Module, before: Shape, after: Shape) -> Pieces:
    """The layer of a module that takes a value of shape `before` and gives one of shape `after`."""
    for kind, make in _MODULES.items():
        # A subclass may compute anything else.
        if type(module) is kind:
            pieces = make(module, before, after)
            if pieces is None:
                raise unsupported(node, f"{type(module).__name__} with these settings: {module}")
            return pieces
    why = REFUSED.get(type(module).__name__)
    raise unsupported(node, f"layer of type {type(module).__name__}" + (f", {why}" if why else ""))


def _column(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().double().reshape(-1, 1, 1)


def _linear(module: nn.Linear, before: Shape, after: Shape) -> Pieces | None:
    weight, axis = module.weight.detach().double().contiguous(), _last_axis(before, after)
    if before[axis] != module.in_features:
        return None
    if axis == 0:
        return single(Linear(weight, _column(module.bias)), after)
    bias = None if module.bias is None else module.bias.detach().double()
    if axis == 1:
        return single(AlongAxes(None, weight, None, None if bias is None else bias.view(1, -1, 1)), after)
    return single(AlongAxes(None, None, weight, bias), after)


def _last_axis(before: Shape, after: Shape) -> int:
    """The last axis of a program's value of this shape, in which axes that it lacks are one long on the right."""
    return max((k for k in range(3) if before[k] != after[k] or before[k] != 1), default=0)


def _conv(module: nn.Conv1d | nn.Conv2d, before: Shape, after: Shape) -> Pieces:
    rank = module.weight.dim() - 2
    kernel, stride, dilation = (
        on_plane(value, rank, 1) for value in (module.kernel_size, module.stride, module.dilation)
    )
    # Padding on the left, right, top, bottom, as functional.pad takes it.
    sides, mode = list(module._reversed_padding_repeated_twice), str(module.padding_mode)
    even = all(a == b for a, b in zip(sides[::2], sides[1::2], strict=True))
    padding, plane = (0, 0), before
    pieces: Pieces = ()
    if mode == "zeros" and even:
        padding = on_plane(sides[::-2], rank, 0)
    else:
        mode = "constant" if mode == "zeros" else mode
        pad = gathered(lambda x: functional.pad(x, sides, mode=mode), torch.Size(before[: rank + 1]), torch.float64)
        assert pad is not None
        plane, pieces = pad.after, (Piece(pad, pad.after),)
    weight = _planar(module.weight, rank)
    view = Windows(kernel, stride, padding, dilation, plane[1:])
    conv = Conv2d(weight.detach().double().contiguous(), _column(module.bias), view, module.groups)
    return (*pieces, Piece(conv, after, shown=True))


def _planar(weight: Tensor, rank: int) -> Tensor:
    return weight[..., None] if rank == 1 else weight


def _conv_transpose(module: nn.ConvTranspose1d | nn.ConvTranspose2d, before: Shape, after: Shape) -> Pieces | None:
    rank = module.weight.dim() - 2
    kernel, stride, dilation = (
        on_plane(value, rank, 1) for value in (module.kernel_size, module.stride, module.dilation)
    )
    view = Windows(kernel, stride, on_plane(module.padding, rank, 0), dilation, after[1:])
    weight = _planar(module.weight, rank).detach().double().contiguous()
    return single(ConvTranspose2d(weight, _column(module.bias), view, before[1:], module.groups), after)


def _batch_norm(module: _BatchNorm, before: Shape, after: Shape) -> Pieces | None:
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
    return single(Scale(scale, shift, size, roundings=16), after)


def _reshape(module: nn.Module, before: Shape, after: Shape) -> Pieces | None:
    return single(Reshape(before, after), after)


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MODULES: dict[type[nn.Module], Callable[[Any, Shape, Shape], Pieces | None]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.ConvTranspose1d: _conv_transpose,
    nn.ConvTranspose2d: _conv_transpose,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    **RECTIFIERS,
    **CURVES,
    nn.MaxPool1d: max_pool,
    nn.MaxPool2d: max_pool,
    nn.AdaptiveMaxPool1d: adaptive_max_pool,
    nn.AdaptiveMaxPool2d: adaptive_max_pool,
    nn.AvgPool1d: average_pool,
    nn.AvgPool2d: average_pool,
    nn.AdaptiveAvgPool1d: adaptive_average_pool,
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
}
