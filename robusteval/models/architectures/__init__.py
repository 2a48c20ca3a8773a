"""The papers' networks by name, those of other packages, and any function in a file that the user names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from robusteval.core import user_code
from robusteval.core.errors import UserError, nearest
from robusteval.models.architectures.alexnet import alexnet
from robusteval.models.architectures.cnn7 import cnn7, cnn7_bn
from robusteval.models.architectures.digits import digits_cnn
from robusteval.models.architectures.lenet import lenet, lenet5, moments_lenet
from robusteval.models.architectures.resnet import resnet18
from robusteval.models.architectures.resnet50 import resnet50
from robusteval.models.architectures.resnext import resnext34
from robusteval.models.architectures.standardisation import cnn7_standardised
from robusteval.models.architectures.wide_resnet import wrn28
from robusteval.models.libraries import LIBRARIES, library_network, of_library


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


_GREY, _SMALL, _LARGE = (1, 28, 28), (3, 32, 32), (3, 224, 224)
_MNIST = (32, 32, 64, 64, 200, 200)
_CIFAR = (64, 64, 128, 128, 256, 256)
_ALL = (
    Architecture("digits-cnn", digits_cnn, (1, 8, 8), "small CNN for scikit-learn's 8x8 digits"),
    Architecture("lenet", lenet, _GREY, "wide LeNet for MNIST (Madry et al. 2018)"),
    Architecture("lenet-cifar10", lenet, _SMALL, "the same for 32x32 colour images"),
    Architecture("moments-lenet-mnist", moments_lenet, _GREY, "LeNet for MNIST (Moments, section 4)"),
    Architecture("moments-lenet-cifar10", moments_lenet, _SMALL, "LeNet for CIFAR-10 (Moments, section 4)"),
    Architecture("moments-lenet-cifar100", moments_lenet, _SMALL, "LeNet for CIFAR-100 (Moments, section 4)", 100),
    Architecture("lenet5", lenet5, _GREY, "LeNet-5 for MNIST"),
    Architecture("smoothkernels-cnn", lenet, _GREY, "CNN for MNIST (SmoothKernels, appendix A)"),
    Architecture("alexnet-cifar10", alexnet, _SMALL, "AlexNet for CIFAR-10 (Moments, section 4)"),
    Architecture("alexnet-cifar100", alexnet, _SMALL, "AlexNet for CIFAR-100 (Moments, section 4)", 100),
    Architecture("cnn7-mnist", partial(cnn7, _MNIST), _GREY, "7-layer CNN for MNIST (SGR, appendix 7.4)"),
    Architecture("cnn7-cifar10", partial(cnn7, _CIFAR), _SMALL, "7-layer CNN for CIFAR-10 (SGR, appendix 7.4)"),
    Architecture(
        "cnn7-std-mnist", partial(cnn7_standardised, _MNIST), _GREY, "cnn7-mnist of standardised images (SGR, 4.1)"
    ),
    Architecture(
        "cnn7-std-cifar10", partial(cnn7_standardised, _CIFAR), _SMALL, "cnn7-cifar10 of standardised images (SGR, 4.1)"
    ),
    Architecture("cnn7-bn-mnist", partial(cnn7_bn, _MNIST), _GREY, "cnn7-mnist with batch normalisation"),
    Architecture("cnn7-bn-cifar10", partial(cnn7_bn, _CIFAR), _SMALL, "cnn7-cifar10 with batch normalisation (OpNorm)"),
    Architecture("resnet18", resnet18, _SMALL, "ResNet-18 for 32x32 images (SmoothKernels)"),
    Architecture("resnext34-2x32", resnext34, _SMALL, "ResNeXt-34 (2x32) for CIFAR-10 (GradReg, section 4)"),
    Architecture("wrn-28-10", wrn28, _SMALL, "wide ResNet for CIFAR-10 (OpNorm)"),
    Architecture("resnet50", resnet50, _LARGE, "ResNet-50 for ImageNet (GradReg, SmoothKernels)", 1000),
)
ARCHITECTURES = {architecture.name: architecture for architecture in _ALL}


def build_network(spec: str) -> nn.Module:
    """The network for NAME, for PACKAGE:NAME of another package, or for FILE.py:FUNCTION, which is called without
    arguments.

    Naming the file is the permission to run it. Raises UserError.
    """
    if spec in ARCHITECTURES:
        return ARCHITECTURES[spec].network()
    if of_library(spec):
        return library_network(spec).network
    parts = user_code.file_and_name(spec)
    if parts is None:
        hint = nearest(spec, ARCHITECTURES)
        packages = ", ".join(f"{name}:NAME" for name in LIBRARIES)
        raise UserError(f"expected --arch as a known name, {packages} or FILE.py:FUNCTION, got '{spec}' ({hint})")
    build = user_code.load_named(Path(parts[0]), parts[1], "function")
    try:
        network = build()
    except (Exception, SystemExit) as error:
        raise UserError(f"expected {spec} to build a network, got {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"expected {spec} to return a torch.nn.Module, got {type(network).__name__}")
    return network
