"""The device that work runs on."""

from __future__ import annotations

import gc

import torch

from robusteval.core.errors import UserError


def choose_device(spec: str) -> torch.device:
    """The device for "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".

    The judge measures in float64, which the device must have. On a GPU float32 is computed as float32: TF32 would let
    the judge's answer differ from the user's.
    """
    if spec == "auto":
        spec = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(spec)
        torch.ones(1, dtype=torch.float64, device=device).item()
    except Exception as error:  # torch raises all kinds for a device that it does not have
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"expected --device auto, cpu or a GPU of this machine, got '{spec}': {problem}") from error
    # Of the CPU there is one, whatever number follows.
    device = torch.device("cpu") if device.type == "cpu" else device
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"{device.type} ({torch.get_num_threads()} threads)"


def forget() -> None:
    """Give the memory of what is not used any more back to the system."""
    gc.collect()
    torch.cuda.empty_cache()
