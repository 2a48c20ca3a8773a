"""Operators of ONNX that move numbers or read shapes: what they are as functions of torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.core.errors import UserError
from robusteval.models.onnx.building import Builder, Operand, Value
from robusteval.models.onnx.file import Operation
from robusteval.models.onnx.operands import (
    Make,
    axes_of,
    axis_in,
    constant_in,
    given,
    optional,
    reshaped,
    sizes_of,
    whole_numbers,
)


def _reshape(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    target = whole_numbers(given(inputs, 1)) or ()
    if not op.settings.get("allowzero", 0):
        old = sizes_of(x)
        target = tuple(old[i] if size == 0 and i < len(old) else size for i, size in enumerate(target))
    return reshaped(build, x, target)


def _flatten(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    shape = sizes_of(x)
    axis = op.settings.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return reshaped(build, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, axes = given(inputs, 0), axes_of(op, inputs)
    shape = sizes_of(x)
    gone = {axis_in(a, len(shape)) for a in axes} if axes is not None else {i for i, s in enumerate(shape) if s == 1}
    if any(shape[i] != 1 for i in gone):
        raise UserError(f"expected axes of size 1 to squeeze, got {sorted(gone)} of {shape}")
    return reshaped(build, x, tuple(s for i, s in enumerate(shape) if i not in gone))


def _unsqueeze(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, axes = given(inputs, 0), axes_of(op, inputs) or ()
    shape = list(sizes_of(x))
    rank = len(shape) + len(axes)
    for axis in sorted(axis_in(a, rank) for a in axes):
        shape.insert(axis, 1)
    return reshaped(build, x, tuple(shape))


def _transpose(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    order = op.settings.get("perm", tuple(reversed(range(len(sizes_of(x))))))
    if order == tuple(range(len(order))):
        return x
    if isinstance(x, Value) and x.node.target is torch.permute:
        # A graph for images with their channels last begins with the permutation that undoes what its reader did.
        before = x.node.args[1]
        if isinstance(before, tuple) and tuple(before[i] for i in order) == tuple(range(len(order))):
            return Value(x.node.args[0], torch.permute(x.like, order))  # type: ignore[arg-type]
    return build.call(torch.permute, x, order)


def _concat(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    parts = [x for x in inputs if x is not None]
    rank = len(sizes_of(parts[0]))
    return build.call(torch.cat, parts, dim=axis_in(op.settings["axis"], rank))


def _shape(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    shape = sizes_of(given(inputs, 0))
    return torch.tensor(shape[op.settings.get("start", 0) : op.settings.get("end", None)], dtype=torch.int64)


def _gather(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, chosen = given(inputs, 0), constant_in(given(inputs, 1))
    assert chosen is not None
    axis = axis_in(op.settings.get("axis", 0), len(sizes_of(x)))
    size = sizes_of(x)[axis]
    if not bool(((chosen >= -size) & (chosen < size)).all()):
        raise UserError(f"expected places below {size} to gather from, got {chosen.tolist()}")
    chosen = torch.where(chosen < 0, chosen + size, chosen)
    if chosen.dim() == 0:
        return build.call(torch.select, x, axis, int(chosen))
    taken = build.call(torch.index_select, x, axis, chosen.reshape(-1))
    if chosen.dim() == 1:
        return taken
    shape = sizes_of(taken)
    return reshaped(build, taken, (*shape[:axis], *chosen.shape, *shape[axis + 1 :]))


def _slice(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x = given(inputs, 0)
    settings = op.settings
    starts = settings.get("starts") or whole_numbers(optional(inputs, 1)) or ()
    ends = settings.get("ends") or whole_numbers(optional(inputs, 2)) or ()
    axes = settings.get("axes") or whole_numbers(optional(inputs, 3)) or tuple(range(len(starts)))
    steps = whole_numbers(optional(inputs, 4)) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = range(*slice(start, end, step).indices(sizes_of(x)[axis]))
        if len(places) == sizes_of(x)[axis] and step == 1:
            continue
        if step == 1:
            x = build.call(torch.narrow, x, axis, places.start, len(places))
        else:
            x = build.call(torch.index_select, x, axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _split(build: Builder, op: Operation, inputs: list[Operand | None]) -> tuple[Operand, ...]:
    x, count = given(inputs, 0), len(op.outputs)
    axis = axis_in(op.settings.get("axis", 0), len(sizes_of(x)))
    size = sizes_of(x)[axis]
    part = -(-size // count)
    equal = tuple(min(part, size - part * i) for i in range(count))
    sizes = op.settings.get("split") or whole_numbers(optional(inputs, 1)) or equal
    starts = [sum(sizes[:i]) for i in range(count)]
    return tuple(build.call(torch.narrow, x, axis, start, s) for start, s in zip(starts, sizes, strict=True))


def _expand(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, shape = given(inputs, 0), whole_numbers(given(inputs, 1)) or ()
    wanted = torch.broadcast_shapes(sizes_of(x), shape)
    if isinstance(x, Tensor) and wanted and wanted[0] == build.batch and sizes_of(x)[:1] == (1,):
        # A constant for each image, such as the class token of a transformer: as many as there are images.
        return build.call(_for_each_image, x, build.image, (1, *wanted[1:]))
    return build.call(torch.broadcast_to, x, tuple(wanted))


def _for_each_image(constant: Tensor, pixels: Tensor, shape: tuple[int, ...]) -> Tensor:
    return constant.expand(len(pixels), *shape[1:])


def _constant_of_shape(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    value = op.settings.get("value", torch.zeros(1))
    return build.call(torch.broadcast_to, value.reshape(()), whole_numbers(given(inputs, 0)) or ())


def _pad(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, axes = given(inputs, 0), whole_numbers(optional(inputs, 3))
    pads = op.settings.get("pads") or whole_numbers(optional(inputs, 1)) or ()
    value = constant_in(optional(inputs, 2))
    number = float(value) if value is not None and value.numel() else float(op.settings.get("value", 0.0))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(op.settings.get("mode", "constant"))
    if mode is None:
        raise UserError(f"expected padding by a constant, by reflection or by the edge, got {op.settings['mode']}")
    rank = len(sizes_of(x))
    sides = [(0, 0)] * rank
    for i, axis in enumerate(axes or range(rank)):
        sides[axis] = (pads[i], pads[i + len(pads) // 2])
    if not any(map(any, sides)):
        return x
    while sides and sides[0] == (0, 0):
        sides.pop(0)
    laid = tuple(size for pair in reversed(sides) for size in pair)
    return build.call(functional.pad, x, laid, mode=mode, value=number if mode == "constant" else None)


def _identity(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    return given(inputs, 0)


def _cast(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    x, to = given(inputs, 0), _CASTS.get(op.settings["to"])
    kind = x.dtype if isinstance(x, Tensor) else x.like.dtype
    if to is None:
        raise UserError(f"expected a cast to numbers, got type {op.settings['to']}")
    if to == kind:
        return x
    if isinstance(x, Value) and to.is_floating_point and to != build.dtype:
        raise UserError(f"expected one floating-point type, {build.dtype}, got a cast to {to}")
    return build.call(torch.Tensor.to, x, to)


_CASTS = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
_CASTS |= {9: torch.bool, 10: torch.float16, 11: torch.float64}


def _constant(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    for name, kind in (("value_float", torch.float32), ("value_int", torch.int64)):
        if name in op.settings:
            return torch.tensor(op.settings[name], dtype=kind)
        if f"{name}s" in op.settings:
            return torch.tensor(op.settings[f"{name}s"], dtype=kind)
    value: Tensor = op.settings["value"]
    return value


MOVING: dict[str, Make] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Pad": _pad,
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
    "Constant": _constant,
}
