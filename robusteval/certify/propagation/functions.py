"""Functions and methods of tensors -> the modules that do the same: those of torch, and the operators (aten) that
programs of torch.export and TorchScript are made of. Weights are what the program knows without its images."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from robusteval.certify.propagation.layers import unsupported

aten = torch.ops.aten


def functional_module(node: fx.Node) -> nn.Module:
    """The module that does what a function or method of tensors does. Raises UnsupportedError."""
    names, make = _FUNCTIONS.get(node.target, ((), None))
    if isinstance(node.target, torch._ops.OpOverload):
        names = tuple(argument.name for argument in node.target._schema.arguments)
    if make is None or len(node.args) > len(names):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        raise unsupported(node, f"the function {name}")
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    values = [name for name, v in given.items() if isinstance(v, fx.Node) and "constant" not in v.meta]
    if len(values) != 1:
        raise unsupported(node, f"{node.target} of {len(values)} values")
    settings = {name: _known(v) for name, v in given.items() if name not in (*values, "inplace")}
    try:
        return make(**settings)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise unsupported(node, f"{node.target} with these settings") from error


def _known(value: Any) -> Any:
    return value.meta["constant"] if isinstance(value, fx.Node) else value


def _with(module: nn.Module, **weights: Tensor | None) -> nn.Module:
    """A module that was made without memory, with its weights."""
    for name, weight in weights.items():
        setattr(module, name, None if weight is None else nn.Parameter(weight.detach(), requires_grad=False))
    return module


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    with torch.device("meta"):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _with(module, weight=weight, bias=bias)


def _addmm(input: Tensor | None = None, *, mat2: Tensor, beta: float = 1, alpha: float = 1, **own: Any) -> nn.Module:
    bias = own.get("self", input)
    if beta != 1 or alpha != 1 or bias is None or bias.dim() != 1:
        raise ValueError
    return _linear(mat2.t(), bias)


def _product(**own: Tensor) -> nn.Module:
    ((_, other),) = own.items()
    if other.dim() != 2:
        raise ValueError
    return _linear(other.t())


def _conv(
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
    if transposed or weight.dim() != 4:
        raise ValueError
    sizes = (weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]))
    steps = (_two(stride), padding if isinstance(padding, str) else _two(padding), _two(dilation))
    with torch.device("meta"):
        module = nn.Conv2d(*sizes, *steps, groups, bias is not None)  # type: ignore[arg-type]
    return _with(module, weight=weight, bias=bias)


def _two(value: Any) -> tuple[int, int]:
    """Numbers for rows and columns, as functions take them: one for both, or a list of one or two."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])


def _batch_norm(
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


def _max_pool(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **own: Any) -> nn.Module:
    if own.pop("return_indices", False):
        raise ValueError
    steps = _two(stride) if stride else None
    return nn.MaxPool2d(_two(kernel_size), steps, _two(padding), _two(dilation), **own)


def _average_pool(kernel_size: Any, stride: Any = None, padding: Any = 0, **own: Any) -> nn.Module:
    return nn.AvgPool2d(_two(kernel_size), _two(stride) if stride else None, _two(padding), **own)


def _mean(dim: Any = None, keepdim: bool = False) -> nn.Module:
    if not isinstance(dim, list | tuple) or sorted(d % 4 for d in dim) != [2, 3]:
        raise ValueError
    return nn.AdaptiveAvgPool2d(1)


def _dropout(p: float = 0.5, training: bool = True, train: bool | None = None) -> nn.Module:
    return nn.Dropout(p).train(training if train is None else train)


def _nothing_less_than(min: float | None = None, max: float | None = None) -> nn.Module:
    """A clamp from zero on."""
    if min != 0 or max is not None:
        raise ValueError
    return nn.ReLU()


_Maker = Callable[..., nn.Module]
_POOL = ("input", "kernel_size", "stride", "padding")
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_RELUS: tuple[object, ...] = (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")
_RELUS += (aten.relu.default, aten.relu_.default)
_PRODUCTS = (torch.matmul, operator.matmul, "matmul", torch.mm, "mm")
_FUNCTIONS: dict[Any, tuple[tuple[str, ...], _Maker]] = {
    **dict.fromkeys(_RELUS, (("input", "inplace"), nn.ReLU)),
    **dict.fromkeys((torch.clamp, "clamp", "clamp_"), (("input", "min", "max"), _nothing_less_than)),
    **dict.fromkeys((torch.clamp_min, "clamp_min"), (("input", "min"), _nothing_less_than)),
    **dict.fromkeys((aten.clamp.default, aten.clamp_min.default), ((), _nothing_less_than)),
    **dict.fromkeys((functional.max_pool2d, torch.max_pool2d), ((*_POOL, "dilation", "ceil_mode"), _max_pool)),
    functional.avg_pool2d: ((*_POOL, "ceil_mode", "count_include_pad", "divisor_override"), _average_pool),
    functional.adaptive_avg_pool2d: (("input", "output_size"), nn.AdaptiveAvgPool2d),
    **dict.fromkeys((torch.mean, "mean"), (("input", "dim", "keepdim"), _mean)),
    functional.dropout: (("input", "p", "training", "inplace"), _dropout),
    functional.linear: (("input", "weight", "bias"), _linear),
    **dict.fromkeys((functional.conv2d, torch.conv2d), (_CONV, _conv)),
    functional.batch_norm: (_NORM, _batch_norm),
    torch.addmm: (("input", "mat1", "mat2"), _addmm),
    **dict.fromkeys(_PRODUCTS, (("input", "other"), _product)),
    **dict.fromkeys((aten.mm.default, aten.matmul.default), ((), _product)),
    aten.addmm.default: ((), _addmm),
    aten.linear.default: ((), _linear),
    **dict.fromkeys((aten.conv2d.default, aten.conv2d.padding), ((), _conv)),
    **dict.fromkeys((aten.convolution.default, aten._convolution.default), ((), _conv)),
    aten.batch_norm.default: ((), _batch_norm),
    aten.max_pool2d.default: ((), _max_pool),
    aten.avg_pool2d.default: ((), _average_pool),
    aten.adaptive_avg_pool2d.default: ((), nn.AdaptiveAvgPool2d),
    aten.mean.dim: ((), _mean),
    **dict.fromkeys((aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default), ((), _dropout)),
}
