"""The papers' networks by name, and any function in a file that the user names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from robusteval.core import user_code
from robusteval.core.errors import UserError, nearest
from robusteval.models.architectures.cnn7 import cnn7
from robusteval.models.architectures.resnet import resnet18
from robusteval.models.architectures.small import digits_cnn, lenet


@dataclass(frozen=True)
class Architecture:
    """A network to build: `build(num_classes, input_shape)`."""

    name: str
    build: Callable[[int, tuple[int, int, int]], nn.Module]
    input_shape: tuple[int, int, int]
    summary: str
    num_classes: int = 10

    def network(self) -> nn.Module:
        """A freshly initialised network in its default size."""
        return self.build(self.num_classes, self.input_shape)


_MNIST = (32, 32, 64, 64, 200, 200)
_CIFAR = (64, 64, 128, 128, 256, 256)
_ALL = (
    Architecture("digits-cnn", digits_cnn, (1, 8, 8), "small CNN for scikit-learn's 8x8 digits"),
    Architecture("lenet", lenet, (1, 28, 28), "LeNet-5 for MNIST (Moments)"),
    Architecture("cnn7-mnist", partial(cnn7, _MNIST), (1, 28, 28), "7-layer CNN for MNIST (SGR, appendix 7.4)"),
    Architecture("cnn7-cifar10", partial(cnn7, _CIFAR), (3, 32, 32), "7-layer CNN for CIFAR-10 (SGR, appendix 7.4)"),
    Architecture("resnet18", resnet18, (3, 32, 32), "ResNet-18 for 32x32 images"),
)
ARCHITECTURES = {architecture.name: architecture for architecture in _ALL}


def build_network(spec: str) -> nn.Module:
    """The network for NAME, or for FILE.py:FUNCTION, which is called without arguments.

    Naming the file is the permission to run it. Raises UserError.
    """
    if spec in ARCHITECTURES:
        return ARCHITECTURES[spec].network()
    parts = user_code.file_and_name(spec)
    if parts is None:
        hint = nearest(spec, ARCHITECTURES)
        raise UserError(f"expected --arch as a known name or FILE.py:FUNCTION, got '{spec}' ({hint})")
    build = user_code.load_named(Path(parts[0]), parts[1], "function")
    try:
        network = build()
    except Exception as error:
        raise UserError(f"expected {spec} to build a network, got {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"expected {spec} to return a torch.nn.Module, got {type(network).__name__}")
    return network
