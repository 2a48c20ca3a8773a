"""The device that work runs on."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError

_CLOSE = 1e-4
"""How far a device's logits and gradients of the small network may be from those of the CPU, which are about 1."""


def choose_device(spec: str) -> torch.device:
    """The device for "auto" (a GPU where there is one that computes what the CPU does), "cpu", "cuda", "cuda:1" or
    "mps".

    The judge measures in float64, which the device must have. On a GPU float32 is computed as float32: TF32 would let
    the judge's answer differ from the user's.
    """
    if spec == "auto":
        spec = _best()
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


def _best() -> str:
    """What "auto" stands for on this machine."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available() and computes_alike(lambda tensor: tensor.to("mps")):
        return "mps"
    return "cpu"


def computes_alike(there: Callable[[Tensor], Tensor]) -> bool:
    """Whether a device computes what the CPU does: logits of a small network and their gradient at its images, in
    float32, and the length of a perturbation in float64, as the judge measures it. `there` takes a tensor onto the
    device. Anything that the device cannot do is a no.

    The network has what networks are made of: a convolution with padding and stride, a normalisation, ReLU, pooling and
    linear layers. It shows gross faults, wrong kernels and missing types, not each one.
    """
    try:
        here_logits, here_gradient, here_length = _pass(lambda tensor: tensor)
        logits, gradient, length = _pass(there)
    except Exception:  # torch raises all kinds for what a device lacks
        return False
    alike = torch.allclose(logits, here_logits, rtol=_CLOSE, atol=_CLOSE)
    alike &= torch.allclose(gradient, here_gradient, rtol=_CLOSE, atol=_CLOSE)
    return alike & torch.allclose(length, here_length, rtol=1e-12, atol=0)


def _pass(there: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (4, 10), their gradient at the images (4, 3, 16, 16), and its length in float64 (4,), on the CPU."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # whoever draws numbers without a stream gets the same as ever
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        ).eval()
    for parameter in network.parameters():
        parameter.data = there(torch.randn(parameter.shape, generator=generator) / 4)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, there(buffer))
    x = there(torch.rand(4, 3, 16, 16, generator=generator)).requires_grad_()
    weights = there(torch.randn(4, 10, generator=generator))
    with torch.enable_grad():
        logits = network(x)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    length = there(x.detach().cpu()).double().flatten(1).square().sum(1).sqrt()
    return logits.detach().cpu(), gradient.cpu(), length.cpu()


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def forget() -> None:
    """Give the memory of what is not used any more back to the system."""
    gc.collect()
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
