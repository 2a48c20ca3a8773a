"""Networks of other packages by name: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`, `robustbench:NAME`.

Each package is an extra, imported when it is named. Nothing is downloaded and no code of a model folder is run: the
weights are those of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.models.libraries.preparation import LibraryNetwork
from robusteval.models.libraries.robust_bench import robustbench_network
from robusteval.models.libraries.timm_names import timm_network
from robusteval.models.libraries.transformers_folder import folder_network
from robusteval.models.libraries.vision import torchvision_network

Build = Callable[[str, int | None, int], LibraryNetwork]
"""A network by its name, the number of its classes (None for its own default) and of the channels of the images."""
LIBRARIES: Mapping[str, Build] = {
    "timm": timm_network,
    "torchvision": torchvision_network,
    "hf": folder_network,
    "robustbench": robustbench_network,
}


def of_library(spec: str) -> bool:
    """Whether an architecture is one of another package."""
    return spec.partition(":")[0] in LIBRARIES and ":" in spec


def library_network(spec: str, channels: int = 3, classes: int | None = None) -> LibraryNetwork:
    """The network of PACKAGE:NAME, with random weights. Raises UserError for an unknown name, and with what to install
    where the package is missing."""
    package, _, name = spec.partition(":")
    if not name:
        raise UserError(f"expected {package}:NAME, got '{spec}'")
    return LIBRARIES[package](name, classes, channels)


def classes_of(weights: Mapping[str, Any], own: Mapping[str, Tensor]) -> int | None:
    """For how many classes weights are that fit a network `own` but for the size of its last layers; None where they
    fit or differ otherwise."""
    other = [k for k in own if k in weights and weights[k].shape not in (None, own[k].shape)]
    counts = {(*weights[key].shape, 0)[0] for key in other}
    alike = all(weights[key].shape[1:] == own[key].shape[1:] for key in other)
    return counts.pop() if len(counts) == 1 and alike and len(other) <= 4 else None
