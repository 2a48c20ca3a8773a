"""Arithmetic of a traced program -> layers: values with constants, sums and differences of two values."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx

from robusteval.certify.propagation.layers import shape_of, unsupported
from robusteval.certify.propagation.ops import Add, Op, Scale
from robusteval.certify.propagation.places import Shape

_OF = torch.ops.aten


def _forms(name: str) -> tuple[object, ...]:
    """An operator of arithmetic in all its forms."""
    operators = [getattr(_OF, form) for form in (name, f"{name}_")]
    python = {"div": "truediv"}.get(name, name)
    own: tuple[object, ...] = (getattr(operator, python), getattr(operator, f"i{python}"), getattr(torch, name))
    return (*own, name, f"{name}_", *(getattr(op, kind) for op in operators for kind in ("Tensor", "Scalar")))


ARITHMETIC: dict[object, str] = {
    **{t: kind for name, kind in {"add": "+", "sub": "-", "mul": "*", "div": "/"}.items() for t in _forms(name)},
    **dict.fromkeys((torch.subtract, "subtract", "subtract_"), "-"),
    **dict.fromkeys((torch.multiply, "multiply", "multiply_"), "*"),
    **dict.fromkeys((torch.divide, "divide", "divide_", torch.true_divide), "/"),
    **dict.fromkeys((operator.neg, torch.neg, torch.negative, "neg", "neg_", "negative", _OF.neg.default), "negative"),
    **dict.fromkeys((torch.rsub, _OF.rsub.Scalar, _OF.rsub.Tensor), "reversed"),
}
_OVERWRITING = (operator.isub, "sub_", "subtract_", _OF.sub_.Tensor, _OF.sub_.Scalar)


def arithmetic(node: fx.Node, shapes: Mapping[fx.Node, Shape], program: fx.GraphModule) -> Op:
    """The layer of a step of arithmetic on values of these shapes. Raises UnsupportedError.

    x + c, x - c, c - x, x * c, x / c for a constant c that broadcasts to x, and x + y, x - y for values of one shape;
    the second of a sum or a difference times `alpha`, where that is given.
    """
    kind, operands, alpha = _taken(node)
    values = [x for x in operands if isinstance(x, fx.Node) and x in shapes]
    shape = shape_of(node)
    if len(values) == 2:
        if kind not in ("+", "-"):
            raise unsupported(node, "a product or quotient of two values")
        if any(shapes[x] != shape for x in values):
            raise unsupported(node, "a sum of values of unequal shapes")
        one = torch.ones((), dtype=torch.float64)
        return Add((one, one * (alpha if kind == "+" else -alpha)))
    if shapes[values[0]] != shape:
        raise unsupported(node, "a constant larger than the value")
    swapped = operands[0] is not values[0]
    if swapped and kind == "/":
        raise unsupported(node, "a constant divided by a value")
    if swapped and node.target in _OVERWRITING:
        raise unsupported(node, "this arithmetic")
    if kind == "negative":
        return _scaled(torch.full(shape, -1.0, dtype=torch.float64))
    constant = _constant(program, node, operands[0 if swapped else 1], shape)
    if kind in "*/":
        return _scaled(constant if kind == "*" else 1 / constant)
    # The first and the second operand of the sum have these factors.
    first, second = 1.0, alpha if kind == "+" else -alpha
    factor, shift = (second, first * constant) if swapped else (first, second * constant)
    unit = abs(factor) == 1 == abs(alpha)
    nothing = factor == 1 and bool((shift == 0).all())
    return Scale(torch.full_like(constant, factor), shift, shift.abs(), 0 if nothing else 2 if unit else 5)


def _taken(node: fx.Node) -> tuple[str, tuple[object, ...], float]:
    """The kind, the operands in the order of a sum, and the factor of the second one."""
    kind, given = ARITHMETIC[node.target], dict[str, object](node.kwargs)
    operands: tuple[object, ...] = (*node.args, *(given.pop(name) for name in ("input", "other") if name in given))
    alpha = given.pop("alpha", 1)
    if len(operands) == 3 and isinstance(node.target, torch._ops.OpOverload):
        alpha, operands = operands[2], operands[:2]
    usual = len(operands) == (1 if kind == "negative" else 2)
    if not usual or not isinstance(alpha, int | float) or given or (alpha != 1 and kind in "*/negative"):
        raise unsupported(node, "this arithmetic")
    return ("-", operands[::-1], float(alpha)) if kind == "reversed" else (kind, operands, float(alpha))


def _scaled(scale: Tensor) -> Scale:
    zero = torch.zeros_like(scale)
    return Scale(scale, zero, zero, 0 if bool((scale == 1).all()) else 3)


def _constant(program: fx.GraphModule, node: fx.Node, value: object, shape: Shape) -> Tensor:
    if isinstance(value, fx.Node) and isinstance(value.meta.get("size"), int | float):
        value = value.meta["size"]
    if isinstance(value, int | float):
        return torch.full(shape, float(value), dtype=torch.float64)
    holder = value.meta.get("constant") if isinstance(value, fx.Node) else None
    if isinstance(holder, Tensor):
        rank = len(node.meta["tensor_meta"].shape)
        laid = holder.detach().double()
        laid = laid.reshape(*(1,) * (rank - laid.dim()), *laid.shape)
        if laid.shape[0] == 1:
            laid = laid[0].reshape(*laid.shape[1:], *(1,) * (4 - rank))
            return laid.expand(shape)
    raise unsupported(node, "arithmetic with something that is not a constant")
