"""Networks of timm by name."""

from __future__ import annotations

import math
from typing import Any

from robusteval.core.errors import UserError, first_line, nearest
from robusteval.models.libraries.preparation import LibraryNetwork, Preparation
from robusteval.models.libraries.vision import with_torchvision


def timm_network(name: str, classes: int | None, channels: int) -> LibraryNetwork:
    """A network of timm with random weights; images as the configuration of its default weights has them. Names that
    lead elsewhere, such as `hf-hub:NAME`, are refused: nothing is downloaded. Raises UserError."""
    timm = with_torchvision("timm", "timm", f"for timm:{name}")
    if ":" in name or "/" in name or not timm.is_model(name.partition(".")[0]):
        raise UserError(f"expected a network of timm, got '{name}' ({nearest(name, timm.list_models())})")
    given: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        network = timm.create_model(name, pretrained=False, in_chans=channels, **given)
    except Exception as error:
        raise UserError(f"expected timm:{name} for {channels} channels, got: {first_line(error)}") from error
    own: dict[str, Any] = network.pretrained_cfg
    crop = tuple(own["input_size"][1:])
    percent = float(own.get("crop_pct") or 1.0)
    normalised = len(own["mean"]) == channels
    preparation = Preparation(
        mean=tuple(own["mean"]) if normalised else None,
        std=tuple(own["std"]) if normalised else None,
        resize=math.floor(crop[0] / percent) if crop[0] == crop[1] else crop,
        crop=crop,
        exact=bool(own.get("fixed_input_size")),
        bicubic=own.get("interpolation") == "bicubic",
    )
    return LibraryNetwork(network, preparation)
