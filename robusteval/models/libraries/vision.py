"""Networks of torchvision by name, and torchvision itself where its compiled operators do not fit torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

from robusteval.core.errors import UserError, first_line, nearest
from robusteval.models.extras import imported
from robusteval.models.libraries.preparation import LibraryNetwork, Preparation

_OPERATORS = ("nms", "qnms")
"""Of detection, which torchvision describes to torch whether or not its compiled part was loaded."""
_declared: list[torch.library.Library] = []
"""Kept: a declaration goes with it."""


def with_torchvision(module: str, extra: str, purpose: str) -> Any:
    """A module that is torchvision's or needs it. Its wheels are compiled for one build of torch; beside another, such
    as torch for CPUs alone, the import stops at operators of detection that are not there. No classifier uses them:
    they are declared, without anything that computes them. Raises UserError."""
    if not _declared and "torchvision" not in sys.modules:
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError:
            pass
        except RuntimeError as error:
            if "torchvision::" not in first_line(error):
                raise
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in _OPERATORS:
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
    return imported(module, extra, purpose)


def torchvision_network(name: str, classes: int | None, channels: int) -> LibraryNetwork:
    """A classifier of torchvision with random weights, as its `get_model` builds it; images as its default weights take
    them. Raises UserError."""
    models = with_torchvision("torchvision.models", "torchvision", f"for torchvision:{name}")
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"expected a classifier of torchvision, got '{name}' ({nearest(name, known)})")
    if channels != 3:
        raise UserError(f"expected colour images for torchvision:{name}, got images of {channels} channels")
    given: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        given |= {"aux_logits": True, "init_weights": False}
    network = models.get_model(name, weights=None, **given)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    crop, resize = (_size(getattr(transforms, key, None)) for key in ("crop_size", "resize_size"))
    preparation = Preparation(
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        resize=resize[0] if resize is not None and resize[0] == resize[1] else resize,
        crop=crop,
        exact=hasattr(network, "image_size"),
        bicubic=str(getattr(transforms.interpolation, "value", "")) == "bicubic",
    )
    return LibraryNetwork(network, preparation)


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sizes = [int(v) for v in (value if isinstance(value, list | tuple) else [value])]
    return sizes[0], sizes[-1]
