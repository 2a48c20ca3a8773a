"""Random crops, flips and cutout of a training batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.training.settings import TrainingSettings


def augmented(pixels: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), each cropped, mirrored and blanked by draws of its own from a CPU stream."""
    n, _, height, width = pixels.shape
    if settings.crop:
        pixels = _cropped(pixels, settings.crop, settings.fill, generator)
    if settings.flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(pixels.device)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    if settings.cutout:
        blanked = _square(n, height, width, settings.cutout, generator).to(pixels.device)
        pixels = torch.where(blanked[:, None], settings.fill, pixels)
    return pixels


def _cropped(pixels: Tensor, margin: int, fill: float, generator: torch.Generator) -> Tensor:
    """Padded by `margin` on every side and cut to their size at a random place."""
    n, _, height, width = pixels.shape
    padded = functional.pad(pixels, (margin,) * 4, value=fill)
    down, right = (torch.randint(2 * margin + 1, (n, 1), generator=generator) for _ in range(2))
    rows = (down + torch.arange(height)).to(pixels.device)
    columns = (right + torch.arange(width)).to(pixels.device)
    image = torch.arange(n, device=pixels.device)[:, None, None]
    # Indices around a slice put the channels last.
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _square(n: int, height: int, width: int, side: int, generator: torch.Generator) -> Tensor:
    """A square of `side` pixels around a random pixel of each image, as far as it lies in it, (N, H, W) bool."""

    def within(length: int) -> Tensor:
        begin = torch.randint(length, (n, 1), generator=generator) - side // 2
        places = torch.arange(length)
        return (places >= begin) & (places < begin + side)

    return within(height)[:, :, None] & within(width)[:, None, :]
