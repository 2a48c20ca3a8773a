"""Operators of ONNX that change the size of a plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.core.errors import UserError
from robusteval.core.limits import check_limit_of
from robusteval.models.onnx.building import Builder, Operand
from robusteval.models.onnx.file import Operation
from robusteval.models.onnx.operands import Make, axis_in, constant_in, given, optional, sizes_of, whole_numbers

_PLACES: dict[str, Callable[[Tensor, float, int, int], Tensor]] = {
    "asymmetric": lambda to, scale, old, new: to / scale,
    "half_pixel": lambda to, scale, old, new: (to + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda to, scale, old, new: (to + 0.5) / scale - 0.5 if new > 1 else to * 0,
    "align_corners": lambda to, scale, old, new: to * (old - 1) / max(new - 1, 1),
}
"""Where the numbers of the new axis lie on the old one."""
_ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
}
_SMOOTH = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear", ("cubic", 2): "bicubic"}
_LONGEST = 2**20
"""Of an axis after it."""


def _resize(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    """Resize, sets of operators 11 and later."""
    x = given(inputs, 0)
    old = sizes_of(x)
    for name in ("antialias", "exclude_outside"):
        if op.settings.get(name):
            raise UserError(f"expected a resizing without {name}, got one with it")
    if op.settings.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UserError("expected a resizing that stretches, got one that keeps proportions")
    axes = [axis_in(axis, len(old)) for axis in op.settings.get("axes", range(len(old)))]
    factors, sizes = constant_in(optional(inputs, 2)), whole_numbers(optional(inputs, 3))
    if sizes:
        scales = [n / old[axis] for axis, n in zip(axes, sizes, strict=True)]
    elif factors is not None and factors.numel() == len(axes):
        scales = [float(v) for v in factors.reshape(-1)]
    else:
        raise UserError("expected sizes or scales of all axes, got neither")
    return _resized(build, x, dict(zip(axes, scales, strict=True)), op)


def _upsample(build: Builder, op: Operation, inputs: list[Operand | None]) -> Operand:
    """Upsample, which Resize took the place of."""
    x, scales = given(inputs, 0), constant_in(optional(inputs, 1))
    found = op.settings.get("scales", ()) if scales is None else scales.reshape(-1).tolist()
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resized(build, x, dict(enumerate(map(float, found))), replace(op, settings={**op.settings, **settings}))


def _resized(build: Builder, x: Operand, scales: dict[int, float], op: Operation) -> Operand:
    """x with axes of floor(size times scale)."""
    if any(not math.isfinite(scale) or scale <= 0 for scale in scales.values()):
        raise UserError(f"expected scales above 0, got {[*scales.values()]}")
    changed = {axis: scale for axis, scale in scales.items() if scale != 1}
    kind = op.settings.get("mode", "nearest")
    place = op.settings.get("coordinate_transformation_mode", "half_pixel")
    if place not in _PLACES:
        raise UserError(f"expected coordinates of {', '.join(_PLACES)}, got {place}")
    if kind == "nearest":
        rounded = _ROUNDED[op.settings.get("nearest_mode", "round_prefer_floor")]
        for axis, scale in changed.items():
            old = sizes_of(x)[axis]
            new = _new_size(old, scale)
            to = torch.arange(new, dtype=torch.float64)
            index = rounded(_PLACES[place](to, scale, old, new)).long().clamp(0, old - 1)
            x = build.call(torch.index_select, x, axis, index)
        return x
    return _smoothed(build, x, changed, kind, place)


def _new_size(old: int, scale: float) -> int:
    new = math.floor(old * scale + 1e-9)
    check_limit_of("an axis that is resized", new, _LONGEST, "numbers")
    if new < 1:
        raise UserError(f"expected at least one number on an axis, got {old} times {scale:g}")
    return new


def _smoothed(build: Builder, x: Operand, scales: dict[int, float], kind: str, place: str) -> Operand:
    rank = len(sizes_of(x)) - 2
    mode = _SMOOTH.get((kind, rank))
    if mode is None or min(scales, default=2) < 2 or place == "asymmetric":
        raise UserError(f"expected a resizing of a plane by torch's coordinates, got {kind} of {place}")
    old = sizes_of(x)[2:]
    factors = [scales.get(axis + 2, 1.0) for axis in range(rank)]
    sizes = [_new_size(size, factor) for size, factor in zip(old, factors, strict=True)]
    if place == "half_pixel" and 1 in sizes:
        raise UserError("expected a plane of more than one number an axis after a resizing by half_pixel, got one")
    exact = all(math.isclose(n, size * f) for n, size, f in zip(sizes, old, factors, strict=True))
    if not exact:
        raise UserError(f"expected scales that give whole sizes, got {factors} of {old}")
    return build.call(functional.interpolate, x, size=tuple(sizes), mode=mode, align_corners=place == "align_corners")


RESIZING: dict[str, Make] = {"Resize": _resize, "Upsample": _upsample}
