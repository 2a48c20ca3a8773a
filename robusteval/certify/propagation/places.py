"""Where things lie on a plane: boxes of it, and the windows that a layer lays over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

Shape = tuple[int, int, int]


def shape(x: Tensor) -> Shape:
    """(C, H, W) of values (..., C, H, W)."""
    channels, height, width = x.shape[-3:]
    return channels, height, width


def plane_of(sizes: Sequence[int]) -> Shape:
    """(C, H, W) of one image's value of one to three axes: those that it lacks are one long, on the right."""
    channels, height, width = (*sizes, 1, 1)[:3]
    return channels, height, width


@dataclass(frozen=True)
class Box:
    """Rows top to top + height and columns left to left + width of a plane."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def whole(cls, shape: Shape) -> Box:
        return cls(0, 0, *shape[1:])

    def of(self, x: Tensor) -> Tensor:
        """The part of planes (..., H, W) that lies in the box."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def union(self, other: Box) -> Box:
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(self.top + self.height, other.top + other.height)
        right = max(self.left + self.width, other.left + other.width)
        return Box(top, left, bottom - top, right - left)

    def clip(self, height: int, width: int) -> Box:
        """What of the box lies on a plane; an empty box where nothing does."""
        top, left = min(max(self.top, 0), height), min(max(self.left, 0), width)
        bottom = max(top, min(self.top + self.height, height))
        right = max(left, min(self.left + self.width, width))
        return Box(top, left, bottom - top, right - left)

    def within(self, outer: Box) -> Box:
        """The same box counted from the corner of `outer`."""
        return replace(self, top=self.top - outer.top, left=self.left - outer.left)

    def embed(self, x: Tensor, outer: Box) -> Tensor:
        """Planes of this box (..., height, width) with zeros around them, as planes of `outer`."""
        top, left = self.top - outer.top, self.left - outer.left
        right, bottom = outer.width - left - self.width, outer.height - top - self.height
        return functional.pad(x, (left, right, top, bottom))


@dataclass(frozen=True)
class Windows:
    """Windows of a kernel (rows, columns) that a layer lays over a plane (height, width).

    over: rows and columns by which the last windows hang over the padding, as with ceil_mode.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    plane: tuple[int, int]
    over: tuple[int, int] = (0, 0)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first to the last that one window sees."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    def seen(self, box: Box) -> Box:
        """What the windows of a box of outputs see, padding included."""
        return Box(
            box.top * self.stride[0] - self.padding[0],
            box.left * self.stride[1] - self.padding[1],
            (box.height - 1) * self.stride[0] + self.reach[0],
            (box.width - 1) * self.stride[1] + self.reach[1],
        )

    def source(self, box: Box) -> Box:
        return self.seen(box).clip(*self.plane)

    def clipped(self, a: Tensor, box: Box) -> tuple[Tensor, Box]:
        """Planes of seen(box) without the padding, and where they lie."""
        inner = self.source(box)
        return inner.within(self.seen(box)).of(a), inner
