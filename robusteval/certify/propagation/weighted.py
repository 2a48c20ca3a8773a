"""The layers with a matrix of weights: linear, convolutional and transposed convolutional ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

from robusteval.certify.propagation.ops import Affine
from robusteval.certify.propagation.places import Box, Windows


@dataclass(frozen=True, eq=False)
class Linear(Affine):
    """weight (F', F), bias (F', 1, 1)."""

    weight: Tensor
    offset: Tensor | None

    @property
    def rounded(self) -> int:
        return self.weight.shape[1] + 2

    @property
    def fan_out(self) -> int:
        return self.weight.shape[0]

    @property
    def bias(self) -> Tensor | None:
        return self.offset

    def apply(self, *x: Tensor) -> Tensor:
        return (x[0].flatten(1) @ self.weight.T)[..., None, None]

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        return (((a.flatten(1) @ self.weight.to(a))[..., None, None], box),)

    def absolute(self) -> Linear:
        return replace(self, weight=self.weight.abs())

    @property
    def kernel(self) -> Tensor:
        """(groups, outputs, inputs of a window)."""
        return self.weight[None]

    def windows(self, x: Tensor) -> Tensor:
        """What each window sees of x (M, C, H, W): (M, groups, inputs of a window, windows)."""
        return x.flatten(1)[:, None, :, None]


@dataclass(frozen=True, eq=False)
class Conv2d(Affine):
    """weight (C', C / groups, k, k), bias (C', 1, 1), zero padding."""

    weight: Tensor
    offset: Tensor | None
    view: Windows
    groups: int = 1

    @property
    def rounded(self) -> int:
        return self.weight[0].numel() + 2

    @property
    def fan_out(self) -> int:
        return self.weight[:, 0].numel() // self.groups

    @property
    def bias(self) -> Tensor | None:
        return self.offset

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (self.view.source(box),)

    def apply(self, *x: Tensor) -> Tensor:
        view = self.view
        return functional.conv2d(x[0], self.weight, None, view.stride, view.padding, view.dilation, self.groups)

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        view, weight = self.view, self.weight.to(a)
        if self.groups == 1 and a.shape[2:] == (1, 1) == view.dilation:
            # One place: a mixture of kernels.
            full = (a.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        else:
            full = functional.conv_transpose2d(a, weight, None, view.stride, groups=self.groups, dilation=view.dilation)
        return (view.clipped(full, box),)

    def absolute(self) -> Conv2d:
        return replace(self, weight=self.weight.abs())

    @property
    def kernel(self) -> Tensor:
        """(groups, outputs, inputs of a window)."""
        return self.weight.reshape(self.groups, len(self.weight) // self.groups, -1)

    def windows(self, x: Tensor) -> Tensor:
        """What each window sees of x (M, C, H, W): (M, groups, inputs of a window, windows)."""
        view = self.view
        seen = functional.unfold(x, view.kernel, view.dilation, view.padding, view.stride)
        return seen.reshape(len(x), self.groups, -1, seen.shape[2])


@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Affine):
    """What the adjoint of a convolution does: weight (C, C' / groups, k, k), bias (C', 1, 1).

    view: the windows of that convolution, over the plane of the output; before: the plane of the input.
    """

    weight: Tensor
    offset: Tensor | None
    view: Windows
    before: tuple[int, int]
    groups: int = 1

    @property
    def rounded(self) -> int:
        return self.weight[:, 0].numel() // self.groups + 2

    @property
    def fan_out(self) -> int:
        return self.weight[0].numel()

    @property
    def bias(self) -> Tensor | None:
        return self.offset

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (Box(0, 0, *self.before),)

    def apply(self, *x: Tensor) -> Tensor:
        view = self.view
        sides = zip(view.plane, self.before, view.stride, view.padding, view.reach, strict=True)
        more = tuple(after - ((n - 1) * s - 2 * p + reach) for after, n, s, p, reach in sides)
        return functional.conv_transpose2d(
            x[0], self.weight, None, view.stride, view.padding, more, self.groups, view.dilation
        )

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        view, whole = self.view, Box(0, 0, *self.before)
        laid = box.embed(a, Box(0, 0, *view.plane))
        weight = self.weight.to(a)
        full = functional.conv2d(laid, weight, None, view.stride, view.padding, view.dilation, self.groups)
        return ((whole.of(full), whole),)

    def absolute(self) -> ConvTranspose2d:
        return replace(self, weight=self.weight.abs())

    @property
    def adjoint_convolution(self) -> Conv2d:
        return Conv2d(self.weight, None, self.view, self.groups)
