"""What operators of ONNX take: values, constants, settings of old and new sets of operators; and how batches keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.models.onnx.building import Builder, Operand, Value
from robusteval.models.onnx.file import Operation

Make = Callable[[Builder, Operation, list[Operand | None]], Operand | tuple[Operand, ...]]
"""What comes of an operation for its inputs, None for one that is left out."""


def given(inputs: list[Operand | None], k: int) -> Operand:
    """An input that an operator cannot do without."""
    if k >= len(inputs) or (found := inputs[k]) is None:
        raise UserError(f"expected at least {k + 1} inputs, got {len(inputs)}")
    return found


def optional(inputs: list[Operand | None], k: int) -> Operand | None:
    return inputs[k] if k < len(inputs) else None


def constant_in(operand: Operand | None) -> Tensor | None:
    """A constant. Raises UserError for what depends on the pixels."""
    if isinstance(operand, Value):
        raise UserError("expected a constant setting, got one that depends on the pixels")
    return operand


def whole_numbers(operand: Operand | None) -> tuple[int, ...] | None:
    """Whole numbers that are constants."""
    constant = constant_in(operand)
    return None if constant is None else tuple(int(v) for v in constant.reshape(-1).tolist())


def axes_of(op: Operation, inputs: list[Operand | None], k: int = 1) -> tuple[int, ...] | None:
    """Axes as older operators have them, among the settings, or newer ones, among the inputs."""
    return op.settings["axes"] if "axes" in op.settings else whole_numbers(optional(inputs, k))


def axis_in(axis: object, rank: int) -> int:
    """An axis, counted from the front. Raises UserError for one that a value of so many axes has not."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise UserError(f"expected one of {rank} axes, got {axis}")
    return axis % rank


def sizes_of(operand: Operand) -> tuple[int, ...]:
    return tuple(operand.shape)


def reshaped(build: Builder, x: Operand, shape: tuple[int, ...]) -> Operand:
    """The same numbers in another shape; the images of a batch stay what they are, however many."""
    old = sizes_of(x)
    if isinstance(x, Value) and old and len(shape) > 1 and old[0] == build.batch:
        rest = math.prod(old[1:])
        sizes = list(shape[1:])
        if shape[0] in (build.batch, -1) and sizes.count(-1) + (shape[0] == -1) <= 1:
            if -1 in sizes and (others := math.prod(s for s in sizes if s != -1)):
                sizes[sizes.index(-1)] = rest // others
            if math.prod(sizes) == rest:
                if tuple(sizes) == old[1:]:
                    return x
                return (
                    build.call(torch.flatten, x, 1) if sizes == [rest] else build.call(torch.reshape, x, (-1, *sizes))
                )
    return build.call(torch.reshape, x, shape)
