"""What a training needs of its images and its network, said in one line where it is not so."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError, UserError, first_line
from robusteval.core.images import Images
from robusteval.defenses.base import statistics_kept
from robusteval.training.settings import TrainingSettings


def check_augmentation(images: Images, settings: TrainingSettings) -> None:
    side = min(images.shape[1:])
    for name, size in (("crop", settings.crop), ("cutout", settings.cutout)):
        if size >= side:
            raise UserError(f"expected --{name} below {side}, the shorter side of the images, got {size}")


def check_passes(network: nn.Module, pixels: Tensor) -> None:
    """Whether the network, which is the user's code and can raise anything, takes the smallest batch in train mode."""
    try:
        with torch.no_grad(), statistics_kept(network):
            network(pixels)
    except Exception as error:
        raise UnsupportedError(
            f"expected a network that can be trained with batches of {len(pixels)}, got an error: {first_line(error)}"
        ) from error


def check_finite(what: str, value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise UserError(f"expected {what}, got {value} in epoch {epoch}; lower --learning-rate or the defense's weight")
