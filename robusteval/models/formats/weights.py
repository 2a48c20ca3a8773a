"""Weights out of safetensors and torch files, without executing anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from robusteval.core.errors import UserError, first_line
from robusteval.core.limits import CHECKPOINT_KEYS, TEXT_BYTES, check_limit_of
from robusteval.files.contents import described, looks_like_safetensors
from robusteval.files.pickled import CallsError, Inert
from robusteval.files.torch_files import read_file


def read_safetensors(path: Path) -> Any:
    """The tensors by name. Raises UserError."""
    if not looks_like_safetensors(path):
        raise UserError(f"expected safetensors in {path}, got {described(path)}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        check_limit_of(path, length, TEXT_BYTES, "bytes in the header")
        raw = file.read(length)
    check_limit_of(path, raw.count(b"[") + raw.count(b"{"), 10 * CHECKPOINT_KEYS, "lists and objects in the header")
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
    """What torch.save wrote: plain containers, with tensors as descriptions. Raises UserError."""
    try:
        content = read_file(path)
    except UserError:
        raise
    except CallsError as error:
        raise UserError(
            f"expected plain weights in {path}, got a file that would have to execute code to load ({error}); "
            f"{_SAVE_IT}"
        ) from error
    except Exception as error:  # a file that is none raises all kinds
        raise UserError(f"expected a torch checkpoint in {path}, got {described(path)}") from error
    if isinstance(content, Inert) and content.kind is not None:
        raise UserError(
            f"expected plain weights in {path}, got a whole object ({content.kind}), which would have to execute code "
            f"to load; {_SAVE_IT}"
        )
    return content


_SAVE_IT = "if you trust where it comes from, load it yourself and save its state_dict() as .safetensors"


def _short(error: BaseException) -> str:
    return first_line(error)[:120]
