"""Weights out of safetensors and torch files, without executing anything."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from robusteval.core.errors import UserError, first_line
from robusteval.core.limits import CHECKPOINT_KEYS, TEXT_BYTES, check_limit_of
from robusteval.models.formats.contents import calls_something, described, looks_like_safetensors


def read_safetensors(path: Path) -> Any:
    """The tensors by name. Raises UserError."""
    if not looks_like_safetensors(path):
        raise UserError(f"expected safetensors in {path}, got {described(path)}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        check_limit_of(path, length, TEXT_BYTES, "bytes in the header")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        if len(raw) < length or not isinstance(header, dict):
            raise ValueError("a header that is cut short")
        check_limit_of(path, len(header), CHECKPOINT_KEYS, "keys")
        return load_file(path)
    except UserError:
        raise
    except Exception as error:  # a header may lie in many ways
        raise UserError(
            f"expected safetensors in {path}, got a file that is damaged or cut short ({_short(error)}); "
            "download it again"
        ) from error


def read_torch(path: Path) -> Any:
    """What torch.save wrote: tensors and plain containers alone. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises all kinds for a file that is not its own
        if isinstance(error, pickle.UnpicklingError) and calls_something(path):
            raise UserError(
                f"expected plain weights in {path}, got a file that would have to execute code to load; if you trust "
                f"where it comes from, load it yourself and save its state_dict() as .safetensors"
            ) from error
        raise UserError(f"expected a torch checkpoint in {path}, got {described(path)} ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return first_line(error)[:120]
