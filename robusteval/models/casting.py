"""Which weights of a file may fill which weights of a network: only where the numbers keep their meaning."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robusteval.core.errors import UserError


def check_cast(path: Path, key: str, value: Tensor, wanted: torch.dtype) -> None:
    """Raises UserError unless `value`, the weights `key` of a file, may be cast to the type of the network's.

    Floating point is rounded to the nearest of the type, whatever its length, but must stay finite. Whole numbers and
    truth values must be the same after it, and never become floating point: those of quantised weights have a scale
    that is not in them. Nothing complex becomes real. A tensor must be dense and have its data.
    """
    found = str(value.dtype).removeprefix("torch.")
    if value.is_quantized or value.layout is not torch.strided or value.is_meta:
        kind = "quantised" if value.is_quantized else "without data" if value.is_meta else "sparse"
        raise UserError(f"expected plain weights for '{key}' in {path}, got {found} that is {kind}")
    if wanted.is_floating_point != value.is_floating_point() or wanted.is_complex != value.is_complex():
        if not wanted.is_complex and not value.is_complex() and not wanted.is_floating_point and _same(value, wanted):
            return
        type_name = str(wanted).removeprefix("torch.")
        hint = "; dequantise them" if wanted.is_floating_point and not value.is_complex() else ""
        raise UserError(f"expected weights for '{key}' ({type_name}) in {path}, got {found}{hint}")
    if value.is_floating_point():
        # In float64: some short types cannot be asked.
        if not value.double().isfinite().all():
            raise UserError(f"expected finite weights in {path}, got NaN or infinity in '{key}'")
        if not value.to(wanted).double().isfinite().all():
            raise UserError(
                f"expected weights that {str(wanted).removeprefix('torch.')} holds in {path}, got "
                f"{float(value.double().abs().max()):.4g} of {found} in '{key}'"
            )
    elif not value.is_complex() and not _same(value, wanted):
        raise UserError(
            f"expected whole numbers that {str(wanted).removeprefix('torch.')} holds for '{key}' in {path}, got {found}"
        )


def _same(value: Tensor, wanted: torch.dtype) -> bool:
    """Whether numbers are the same after the cast to another type and back."""
    return bool((value.to(wanted).to(value.dtype) == value).all())
