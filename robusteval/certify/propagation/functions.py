"""Functions and methods of tensors -> the modules that do the same: those of torch, and the operators (aten) that
programs of torch.export and TorchScript are made of. Weights are what the program knows without its images."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from robusteval.certify.propagation.function_makers import (
    Maker,
    made_addmm,
    made_batch_norm,
    made_clamp,
    made_conv,
    made_conv_transpose,
    made_dropout,
    made_elu,
    made_hard_tanh,
    made_linear,
    made_prelu,
    made_product,
    made_rrelu,
    pool_maker,
)
from robusteval.certify.propagation.layers import REFUSED, unsupported
from robusteval.certify.propagation.rectifiers import Absolute

aten = torch.ops.aten


def _activations(name: str, make: Maker) -> dict[Any, tuple[tuple[str, ...], Maker]]:
    """An activation without settings in all its forms."""
    own = [getattr(place, form) for place in (torch, functional) for form in (name, f"{name}_") if hasattr(place, form)]
    operators = [getattr(aten, form).default for form in (name, f"{name}_") if hasattr(aten, form)]
    return dict.fromkeys((*own, *operators, name, f"{name}_"), (("input", "inplace"), make))


def functional_module(node: fx.Node) -> nn.Module:
    """The module that does what a function or method of tensors does. Raises UnsupportedError."""
    names, make = _FUNCTIONS.get(node.target, ((), None))
    if isinstance(node.target, torch._ops.OpOverload):
        names = tuple(argument.name for argument in node.target._schema.arguments)
    if make is None or len(node.args) > len(names):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        why = REFUSED.get(str(name).split(".")[0])
        raise unsupported(node, f"the function {name}" + (f", {why}" if why else ""))
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    values = [name for name, v in given.items() if isinstance(v, fx.Node) and not v.meta.keys() & {"constant", "size"}]
    if len(values) != 1:
        raise unsupported(node, f"{node.target} of {len(values)} values")
    settings = {name: _known(v) for name, v in given.items() if name not in (*values, "inplace")}
    try:
        return make(**settings)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise unsupported(node, f"{node.target} with these settings") from error


def _known(value: Any) -> Any:
    return value.meta.get("constant", value.meta.get("size")) if isinstance(value, fx.Node) else value


_LEAKY = ("input", "negative_slope", "inplace")
_POOL = ("input", "kernel_size", "stride", "padding")
_AVERAGE = (*_POOL, "ceil_mode", "count_include_pad")
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_RELUS: tuple[object, ...] = (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")
_RELUS += (aten.relu.default, aten.relu_.default)
_PRODUCTS = (torch.matmul, operator.matmul, "matmul", torch.mm, "mm")
_FUNCTIONS: dict[Any, tuple[tuple[str, ...], Maker]] = {
    **dict.fromkeys(_RELUS, (("input", "inplace"), nn.ReLU)),
    **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clamp_", "clip"), (("input", "min", "max"), made_clamp)),
    **dict.fromkeys((torch.clamp_min, "clamp_min", "clamp_min_"), (("input", "min"), made_clamp)),
    **dict.fromkeys((torch.clamp_max, "clamp_max", "clamp_max_"), (("input", "max"), made_clamp)),
    **dict.fromkeys(
        (aten.clamp.default, aten.clamp_.default, aten.clamp_min.default, aten.clamp_max.default), ((), made_clamp)
    ),
    **dict.fromkeys((functional.leaky_relu, functional.leaky_relu_), (_LEAKY, nn.LeakyReLU)),
    **dict.fromkeys((aten.leaky_relu.default, aten.leaky_relu_.default), ((), nn.LeakyReLU)),
    **dict.fromkeys(
        (functional.hardtanh, functional.hardtanh_), (("input", "min_val", "max_val", "inplace"), made_hard_tanh)
    ),
    **dict.fromkeys((aten.hardtanh.default, aten.hardtanh_.default), ((), made_hard_tanh)),
    **dict.fromkeys((functional.relu6, aten.relu6.default, aten.relu6_.default), (("input", "inplace"), nn.ReLU6)),
    **dict.fromkeys((functional.prelu, torch.prelu), (("input", "weight"), made_prelu)),
    aten.prelu.default: ((), made_prelu),
    functional.rrelu: (("input", "lower", "upper", "training", "inplace"), made_rrelu),
    **dict.fromkeys((aten.rrelu.default, aten.rrelu_.default), ((), made_rrelu)),
    **dict.fromkeys(
        (torch.abs, operator.abs, "abs", "abs_", aten.abs.default, aten.abs_.default), (("input",), Absolute)
    ),
    **_activations("sigmoid", nn.Sigmoid),
    **_activations("tanh", nn.Tanh),
    **_activations("hardsigmoid", nn.Hardsigmoid),
    **_activations("hardswish", nn.Hardswish),
    **_activations("silu", nn.SiLU),
    **_activations("selu", nn.SELU),
    **_activations("softsign", nn.Softsign),
    **_activations("logsigmoid", nn.LogSigmoid),
    **_activations("log_sigmoid", nn.LogSigmoid),
    functional.gelu: (("input", "approximate"), nn.GELU),
    aten.gelu.default: ((), nn.GELU),
    functional.elu: (("input", "alpha", "inplace"), nn.ELU),
    **dict.fromkeys((aten.elu.default, aten.elu_.default), ((), made_elu)),
    functional.softplus: (("input", "beta", "threshold"), nn.Softplus),
    aten.softplus.default: ((), nn.Softplus),
    **dict.fromkeys(
        (functional.max_pool2d, torch.max_pool2d), ((*_POOL, "dilation", "ceil_mode"), pool_maker(nn.MaxPool2d))
    ),
    **dict.fromkeys(
        (functional.max_pool1d, torch.max_pool1d), ((*_POOL, "dilation", "ceil_mode"), pool_maker(nn.MaxPool1d))
    ),
    functional.avg_pool2d: ((*_AVERAGE, "divisor_override"), pool_maker(nn.AvgPool2d)),
    **dict.fromkeys(
        (functional.avg_pool1d, torch.avg_pool1d),
        ((*_POOL, "ceil_mode", "count_include_pad"), pool_maker(nn.AvgPool1d)),
    ),
    functional.adaptive_avg_pool2d: (("input", "output_size"), nn.AdaptiveAvgPool2d),
    functional.adaptive_avg_pool1d: (("input", "output_size"), nn.AdaptiveAvgPool1d),
    functional.adaptive_max_pool2d: (("input", "output_size"), nn.AdaptiveMaxPool2d),
    functional.adaptive_max_pool1d: (("input", "output_size"), nn.AdaptiveMaxPool1d),
    functional.dropout: (("input", "p", "training", "inplace"), made_dropout),
    functional.linear: (("input", "weight", "bias"), made_linear),
    **dict.fromkeys((functional.conv2d, torch.conv2d, functional.conv1d, torch.conv1d), (_CONV, made_conv)),
    **dict.fromkeys((functional.conv_transpose2d, functional.conv_transpose1d), (_TRANSPOSED, made_conv_transpose)),
    functional.batch_norm: (_NORM, made_batch_norm),
    torch.addmm: (("input", "mat1", "mat2"), made_addmm),
    **dict.fromkeys(_PRODUCTS, (("input", "other"), made_product)),
    **dict.fromkeys((aten.mm.default, aten.matmul.default), ((), made_product)),
    aten.addmm.default: ((), made_addmm),
    aten.linear.default: ((), made_linear),
    **dict.fromkeys((aten.conv2d.default, aten.conv2d.padding, aten._convolution_mode.default), ((), made_conv)),
    **dict.fromkeys((aten.convolution.default, aten._convolution.default), ((), made_conv)),
    aten.batch_norm.default: ((), made_batch_norm),
    **dict.fromkeys((aten.conv1d.default, aten.conv1d.padding), ((), made_conv)),
    **dict.fromkeys((aten.conv_transpose1d.default, aten.conv_transpose2d.input), ((), made_conv_transpose)),
    aten.max_pool2d.default: ((), pool_maker(nn.MaxPool2d)),
    aten.max_pool1d.default: ((), pool_maker(nn.MaxPool1d)),
    aten.avg_pool2d.default: ((), pool_maker(nn.AvgPool2d)),
    aten.avg_pool1d.default: ((), pool_maker(nn.AvgPool1d)),
    aten.adaptive_avg_pool2d.default: ((), nn.AdaptiveAvgPool2d),
    aten.adaptive_avg_pool1d.default: ((), nn.AdaptiveAvgPool1d),
    **dict.fromkeys((aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default), ((), made_dropout)),
}
