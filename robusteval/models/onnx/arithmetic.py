"""Operators of ONNX that compute entry by entry or over axes: what they are as functions and modules of torch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.errors import UserError
from robusteval.models.onnx.building import Builder, Operand, Value
from robusteval.models.onnx.file import Operation
from robusteval.models.onnx.operands import Make, axes_of, axis_in, constant_in, given, optional, sizes_of

_JOINED = 13
"""Before this set of operators Softmax took all axes from its own on as one."""


def _binary(function: Callable[..., Any]) -> Make:
    def make(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
        left, right = given(inputs, 0), given(inputs, 1)
        return build.call(function, _plain(left, right), _plain(right, left))

    return make


def _plain(operand: Operand, other: Operand) -> Any:
    """A constant of one number as that number, where it changes no shape."""
    if isinstance(operand, Value) or isinstance(other, Tensor):
        return operand
    single = operand.numel() == 1 and operand.dim() <= len(other.shape) and operand.is_floating_point()
    return float(operand) if single else operand


def _div(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, y = given(inputs, 0), given(inputs, 1)
    if isinstance(x, Tensor) and isinstance(y, Tensor) and not x.is_floating_point():
        return torch.div(x, y, rounding_mode="trunc")
    return build.call(operator.truediv, _plain(x, y), _plain(y, x))


def _add(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    """A sum; one of a product with weights and one number a column is the bias of that layer."""
    for x, shift in ((given(inputs, 0), given(inputs, 1)), (given(inputs, 1), given(inputs, 0))):
        if isinstance(x, Value) and isinstance(shift, Tensor) and x.node.op == "call_module" and not x.node.users:
            layer = build.root.get_submodule(str(x.node.target))
            flat = shift.dim() <= len(x.shape) and shift.numel() == shift.shape[-1:].numel()
            if isinstance(layer, nn.Linear) and layer.bias is None and flat and shift.numel() == layer.out_features:
                layer.bias = nn.Parameter(shift.reshape(-1).clone(), requires_grad=False)
                return x
    return build.call(
        operator.add, _plain(given(inputs, 0), given(inputs, 1)), _plain(given(inputs, 1), given(inputs, 0))
    )


def _unary(function: Callable[..., Any]) -> Make:
    return lambda build, op, inputs: build.call(function, given(inputs, 0))


def _module(make: Callable[[Operation], nn.Module]) -> Make:
    return lambda build, op, inputs: build.layer(make(op), given(inputs, 0))


def _clip(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    ends = []
    for k, name in ((1, "min"), (2, "max")):
        end = constant_in(optional(inputs, k))
        ends.append(float(end) if end is not None and end.numel() else op.settings.get(name))
    low, high = ends
    if low == 0 and (high is None or high >= torch.finfo(torch.float32).max):
        return build.layer(nn.ReLU(), given(inputs, 0))
    return build.call(torch.clamp, given(inputs, 0), low, high)


def _softmax(function: Callable[..., Any]) -> Make:
    def make(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
        x = given(inputs, 0)
        rank = len(sizes_of(x))
        axis = axis_in(op.settings.get("axis", -1 if build.version >= _JOINED else 1), rank)
        if build.version < _JOINED and axis != rank - 1:
            raise UserError(f"expected a softmax over the last axis, got one over all axes from {axis} on")
        return build.call(function, x, axis)

    return make


def _reduction(function: Callable[..., Any]) -> Make:
    def make(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
        x, keep = given(inputs, 0), bool(op.settings.get("keepdims", 1))
        axes = axes_of(op, inputs)
        if not axes:
            if op.settings.get("noop_with_empty_axes", 0):
                return x
            axes = tuple(range(len(sizes_of(x))))
        return build.call(function, x, tuple(axis_in(a, len(sizes_of(x))) for a in axes), keepdim=keep)

    return make


def _prelu(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, slope = given(inputs, 0), constant_in(given(inputs, 1))
    assert slope is not None
    channels = sizes_of(x)[1]
    if slope.numel() in (1, channels) and (slope.numel() == 1 or slope.shape[:1] == (channels,)) and slope.dim() != 1:
        own = nn.PReLU(slope.numel(), dtype=slope.dtype)
        own.weight = nn.Parameter(slope.reshape(-1).clone(), requires_grad=False)
        return build.layer(own, x)
    return build.call(torch.where, build.call(operator.gt, x, 0), x, build.call(operator.mul, x, slope))


def _where(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    return build.call(torch.where, *(given(inputs, k) for k in range(3)))


def _sum_of(function: Callable[..., Any]) -> Make:
    def make(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
        total = given(inputs, 0)
        for x in inputs[1:]:
            assert x is not None
            total = build.call(function, total, x)
        return total

    return make


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim)


def _length(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keepdim)
    return length


def _einsum(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    return build.call(torch.einsum, op.settings["equation"], *(given(inputs, k) for k in range(len(inputs))))


_BINARY: dict[str, Callable[..., Any]] = {
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Pow": operator.pow,
    "Equal": operator.eq,
    "Greater": operator.gt,
    "Less": operator.lt,
    "GreaterOrEqual": operator.ge,
    "LessOrEqual": operator.le,
}
_UNARY: dict[str, Callable[..., Any]] = {
    "Neg": operator.neg,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Sign": torch.sign,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Reciprocal": torch.reciprocal,
    "Not": torch.logical_not,
}
_MODULES: dict[str, Callable[[Operation], nn.Module]] = {
    "Relu": lambda op: nn.ReLU(),
    "LeakyRelu": lambda op: nn.LeakyReLU(op.settings.get("alpha", 0.01)),
    "Elu": lambda op: nn.ELU(op.settings.get("alpha", 1.0)),
    "Celu": lambda op: nn.CELU(op.settings.get("alpha", 1.0)),
    "Selu": lambda op: nn.SELU(),
    "Sigmoid": lambda op: nn.Sigmoid(),
    "Tanh": lambda op: nn.Tanh(),
    "Softplus": lambda op: nn.Softplus(threshold=80),
    "Softsign": lambda op: nn.Softsign(),
    "HardSwish": lambda op: nn.Hardswish(),
    "Mish": lambda op: nn.Mish(),
    "Gelu": lambda op: nn.GELU(op.settings.get("approximate", "none")),
}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL2": _length,
    "ReduceLogSumExp": _log_sum_exp,
}


def _hard_sigmoid(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    alpha, beta = op.settings.get("alpha", 0.2), op.settings.get("beta", 0.5)
    scaled = build.call(operator.add, build.call(operator.mul, given(inputs, 0), alpha), beta)
    return build.call(torch.clamp, scaled, 0.0, 1.0)


def _norm(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, axis = given(inputs, 0), op.settings.get("axis", -1)
    return build.call(functional.normalize, x, float(op.settings.get("p", 2)), axis, 0.0)


ARITHMETIC: dict[str, Make] = {
    "Add": _add,
    "Div": _div,
    **{kind: _binary(function) for kind, function in _BINARY.items()},
    **{kind: _unary(function) for kind, function in _UNARY.items()},
    **{kind: _module(make) for kind, make in _MODULES.items()},
    **{kind: _reduction(function) for kind, function in _REDUCTIONS.items()},
    "Clip": _clip,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "PRelu": _prelu,
    "Where": _where,
    "Sum": _sum_of(operator.add),
    "Max": _sum_of(torch.maximum),
    "Min": _sum_of(torch.minimum),
    "Einsum": _einsum,
    "HardSigmoid": _hard_sigmoid,
    "LpNormalization": _norm,
}
