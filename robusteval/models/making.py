"""How a network becomes a classifier: copied, frozen, with its normalisation inside and a fingerprint."""

from __future__ import annotations

import copy
import sys
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError, first_line
from robusteval.models.classifier import Classifier
from robusteval.models.fingerprint import fingerprint, network_facts, weights_digest
from robusteval.models.serving import served


class Preprocessed(nn.Module):
    """A network with its normalisation (x - mean) / std in front, so that it takes pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=dtype).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits


def make_classifier(
    name: str,
    network: nn.Module,
    input_shape: tuple[int, int, int],
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    binary: bool = False,
) -> Classifier:
    """A classifier with a copy of a network, frozen, in eval mode and with its normalisation inside.

    The network itself is left as it is: its mode, its weights, their memory layout and what requires a gradient. Its
    hooks are copied too, so that those of the caller see what the copy computes. The classifier computes in the
    floating-point type of the network's weights. Networks with a batch size of their own, with answers that hold
    `logits`, or, if `binary`, with one logit for two classes are served as classifiers too (serving.py). Raises
    UserError where the network cannot be copied, cannot take images (C, H, W) of `input_shape`, or does not give
    (N, K) logits.
    """
    if not isinstance(network, nn.Module):
        raise UserError(f"expected a torch.nn.Module for {name}, got {type(network).__name__}")
    try:
        # Copies of a TorchScript program's parameters are no leaves where autograd records them.
        with torch.no_grad():
            own = copy.deepcopy(network)
    except Exception as error:
        raise UserError(
            f"expected a network that can be copied, got an error from {name}: {first_line(error)}; save its "
            "state_dict() as .safetensors and open it with the function that builds it as its architecture"
        ) from error
    return own_network(name, own, input_shape, mean, std, binary)


def own_network(
    name: str,
    network: nn.Module,
    input_shape: tuple[int, int, int],
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    binary: bool = False,
) -> Classifier:
    """The same of a network that belongs to nobody else, which is changed in place."""
    channels = input_shape[0]
    mean, std = mean or (0.0,) * channels, std or (1.0,) * channels
    for setting, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise UserError(f"expected --{setting} with {channels} values, one a channel, got {len(values)}")
    state = list(network.state_dict().values())
    device = state[0].device if state else torch.device("cpu")
    dtype = next((value.dtype for value in state if value.is_floating_point()), torch.float32)
    for setting, values in (("mean", mean), ("std", std)):
        # In the type of the network a finite number may be infinite, and a small one zero.
        held = torch.tensor(values, dtype=torch.float64).to(dtype).double()
        if not held.isfinite().all() or (setting == "std" and held.min() <= 0):
            wanted = "finite numbers above zero" if setting == "std" else "finite numbers"
            raise UserError(f"expected --{setting} of {wanted} for {name}, got {', '.join(map(str, values))}")
    # The network is the user's code, which can raise anything.
    try:
        module = Preprocessed(network, mean, std, dtype).to(device).eval().requires_grad_(False)
        before = network_facts(module)
    except Exception as error:
        raise UserError(f"expected a network to audit, got an error from {name}: {first_line(error)}") from error
    like = torch.full((1, *input_shape), 0.5, device=device, dtype=dtype)
    with torch.no_grad(), redirect_stdout(sys.stderr):
        fitting = served(name, module.network, (like - module.mean) / module.std, binary)
        after = network_facts(module)
        module.network = fitting
        classes = module(like).shape[1]
    _lay_out(module, input_shape)
    weights = weights_digest(module)
    known = fingerprint(weights, after, before)
    return Classifier(name, module, classes, input_shape, known, dtype=dtype, weights=weights, mean=mean, std=std)


def _lay_out(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Keep the weights channels-last where the network answers the same: its convolutions are up to a third faster.
    A network that flattens with `view` stays as it is."""
    if not any(isinstance(m, nn.Conv2d) for m in module.modules()):
        return
    like = next(value for value in module.state_dict().values() if value.is_floating_point())
    pixels = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        try:
            expected = module(pixels)
            answered = module.to(memory_format=torch.channels_last)(pixels)  # type: ignore[call-overload]
            same = torch.allclose(answered, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
        except (Exception, SystemExit):
            same = False
    if not same:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
