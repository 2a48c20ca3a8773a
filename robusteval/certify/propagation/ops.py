"""The layers that bounds pass through, in float64.

Every value is a plane (C, H, W); flat features are (F, 1, 1). An affine layer is y = sum_i W_i x_i + b and knows three
things: W x, W^T a, and itself with |W| and |b|. All else is a maximum over windows or a curve (curves.py). The adjoint
works on a `Box` of the plane, so that what a few outputs need costs as little as what they see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.certify.propagation.places import Box, Shape, Windows


class Op(ABC):
    """A layer of a graph."""

    @abstractmethod
    def apply(self, *x: Tensor) -> Tensor:
        """What it makes of values (M, C, H, W); of an affine layer, without the bias."""

    def output(self, *x: Tensor) -> Tensor:
        """The same with the bias."""
        return self.apply(*x)

    def sources(self, box: Box) -> tuple[Box, ...]:
        """The part of each input that a box of the output depends on."""
        return (box,)


class Affine(Op):
    """y = sum_i W_i x_i + b on batches (M, C, H, W)."""

    @property
    def rounded(self) -> int:
        """The most roundings that any term of an output goes through when the network computes it."""
        return 0

    @property
    def fan_out(self) -> int:
        """The most terms in an entry of W^T a."""
        return 1

    @property
    def bias(self) -> Tensor | None:
        """b, broadcastable to (C, H, W); None for zero."""
        return None

    @property
    def bias_size(self) -> Tensor | None:
        """The sum of the magnitudes that make b, as `bias`."""
        return None if self.bias is None else self.bias.abs()

    def output(self, *x: Tensor) -> Tensor:
        made = self.apply(*x)
        return made if self.bias is None else made + self.bias

    @abstractmethod
    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        """W^T a for each input, for a (M, C, h, w) that is zero outside of `box`; and the box it lies in."""

    def absolute(self) -> Self:
        """The same layer with |W| for W."""
        return self


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """y = scale * x + shift, entry by entry, both (C, H, W): normalisation and batch normalisation.

    shift_size: the magnitudes that shift is the sum of; roundings: those of the longest way to compute it.
    """

    scale: Tensor
    shift: Tensor
    shift_size: Tensor
    roundings: int

    @property
    def rounded(self) -> int:
        return self.roundings

    @property
    def bias(self) -> Tensor:
        return self.shift

    @property
    def bias_size(self) -> Tensor:
        return self.shift_size

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.scale

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        return ((a * box.of(self.scale).to(a), box),)

    def absolute(self) -> Scale:
        return replace(self, scale=self.scale.abs())


@dataclass(frozen=True, eq=False)
class Add(Affine):
    """The sum of two values, each times a factor that broadcasts to (C, H, W)."""

    factors: tuple[Tensor, Tensor]

    @property
    def rounded(self) -> int:
        """The factors are rounded, too, where they are no ones."""
        return 2 if all(bool((factor.abs() == 1).all()) for factor in self.factors) else 5

    def sources(self, box: Box) -> tuple[Box, ...]:
        return box, box

    def apply(self, *x: Tensor) -> Tensor:
        return self.factors[0] * x[0] + self.factors[1] * x[1]

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        left, right = ((a * factor.to(a), box) for factor in self.factors)
        return left, right

    def absolute(self) -> Add:
        left, right = (factor.abs() for factor in self.factors)
        return Add((left, right))


@dataclass(frozen=True)
class Concatenate(Affine):
    """Values side by side in the channels, `sizes` channels each."""

    sizes: tuple[int, ...]

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (box,) * len(self.sizes)

    def apply(self, *x: Tensor) -> Tensor:
        return torch.cat(x, dim=1)

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        return tuple((part, box) for part in a.split(self.sizes, dim=1))


@dataclass(frozen=True)
class Reshape(Affine):
    """The same entries in the same order in another shape."""

    before: Shape
    after: Shape

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (Box.whole(self.before),)

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].reshape(-1, *self.after)

    def adjoint(self, a: Tensor, box: Box) -> tuple[tuple[Tensor, Box], ...]:
        whole = box.embed(a, Box.whole(self.after))
        return ((whole.reshape(-1, *self.before), Box.whole(self.before)),)


@dataclass(frozen=True)
class Max(Op):
    """The largest entry of each window, and zero where there is a `floor`. ReLU is the window of one entry with it."""

    view: Windows
    floor: bool

    @property
    def single(self) -> bool:
        """Whether a window is the one entry at its own place."""
        return self.view.kernel == (1, 1) == self.view.stride

    def sources(self, box: Box) -> tuple[Box, ...]:
        return (self.view.source(box),)

    def apply(self, *x: Tensor) -> Tensor:
        (entries,), view = x, self.view
        over = (0, view.over[1], 0, view.over[0])
        laid = functional.pad(entries, over, value=-torch.inf) if any(over) else entries
        largest = entries if self.single else functional.max_pool2d(laid, view.kernel, view.stride, view.padding)
        return largest.clamp_min(0) if self.floor else largest

    def members(self, x: Tensor) -> Tensor:
        """The entries of each window of x (M, C, H, W), (windows' entries, M, C, H', W'); -inf for padding."""
        if self.single:
            return x[None]
        view = self.view
        (down, right), (under, beyond) = view.padding, view.over
        padded = functional.pad(x, (right, right + beyond, down, down + under), value=-torch.inf)
        windows = padded.unfold(2, view.kernel[0], view.stride[0]).unfold(3, view.kernel[1], view.stride[1])
        return windows.flatten(-2).movedim(-1, 0)

    def scattered(self, members: Tensor, box: Box) -> tuple[Tensor, Box]:
        """The adjoint of `members`: (windows' entries, ..., h, w) of a box of outputs, added up in the inputs' places;
        and the box they lie in."""
        if self.single:
            return members[0], box
        view, seen = self.view, self.view.seen(box)
        out = members.new_zeros(*members.shape[1:-2], seen.height, seen.width)
        for k, part in enumerate(members):
            i, j = divmod(k, view.kernel[1])
            rows = slice(i, i + (box.height - 1) * view.stride[0] + 1, view.stride[0])
            columns = slice(j, j + (box.width - 1) * view.stride[1] + 1, view.stride[1])
            out[..., rows, columns] += part
        return view.clipped(out, box)
