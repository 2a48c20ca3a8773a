"""What a model's own configuration says of its images, and the part of it that goes into the network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.errors import UserError

Size = tuple[int, int]
"""(rows, columns)"""


@dataclass(frozen=True)
class Preparation:
    """mean, std: the normalisation of pixels in [0, 1]; resize: what images are resized to, one number for the shorter
    side; crop: the middle that is cut out of that, which is what the network takes; exact: whether it takes no other
    size; bicubic: how it is resized, else bilinear."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | Size | None = None
    crop: Size | None = None
    exact: bool = False
    bicubic: bool = False
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LibraryNetwork:
    """A network of another package, with random weights or, where it was read with them, its own."""

    network: nn.Module
    preparation: Preparation


class Resized(nn.Module):
    """A network behind a resize and a crop of the middle: distances are those of the images as they are given."""

    def __init__(self, network: nn.Module, size: Size, crop: Size, bicubic: bool) -> None:
        super().__init__()
        self.network, self.size, self.crop, self.mode = network, size, crop, "bicubic" if bicubic else "bilinear"

    def forward(self, pixels: Tensor) -> Tensor:
        large = functional.interpolate(pixels, self.size, mode=self.mode, align_corners=False, antialias=True)
        top, left = (self.size[0] - self.crop[0]) // 2, (self.size[1] - self.crop[1]) // 2
        logits: Tensor = self.network(large[..., top : top + self.crop[0], left : left + self.crop[1]])
        return logits

    def extra_repr(self) -> str:
        return f"size={self.size}, crop={self.crop}, mode={self.mode}"


def resizing(found: LibraryNetwork, images: Size) -> nn.Module:
    """The network for images of this size: behind the resize and crop of its configuration where it takes no other
    size, and images have not that of the crop already."""
    own = found.preparation
    if not own.exact or own.crop is None or own.crop == images:
        return found.network
    size = resized(own.resize or own.crop, images)
    if any(a < b for a, b in zip(size, own.crop, strict=True)):
        raise UserError(f"expected a crop of {own.crop} within what images are resized to, got {size}")
    return Resized(found.network, size, own.crop, own.bicubic)


def resized(resize: int | Size, images: Size) -> Size:
    """The size after a resize; of the shorter side to `resize` where that is one number."""
    if not isinstance(resize, int):
        return resize
    height, width = images
    return (resize, resize * width // height) if height <= width else (resize * height // width, resize)


def said(name: str, found: LibraryNetwork, images: Size, normalised: bool) -> str:
    """What is done with the images because the model's configuration says so, in words; empty for nothing. normalised:
    whether mean and standard deviation are those of the configuration."""
    own, parts = found.preparation, list[str]()
    if own.crop is not None and own.crop != images:
        wanted = "x".join(map(str, own.crop))
        if own.exact:
            size = "x".join(map(str, resized(own.resize or own.crop, images)))
            parts.append(f"images are resized to {size} and their middle {wanted} is taken, inside the classifier")
        else:
            here = "x".join(map(str, images))
            parts.append(f"it was made for images of {wanted}, those of {here} are taken as they are")
    if normalised and own.mean is not None and own.std is not None:
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (own.mean, own.std))
        parts.append(
            f"pixels are normalised inside the classifier by mean {mean} and std {std} (--mean, --std say else)"
        )
    return f"{name}: {'; '.join(parts)}, by the model's own configuration" if parts else ""
