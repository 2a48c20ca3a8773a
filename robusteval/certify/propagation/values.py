"""What is known of a value of a network over the images of a ball: an interval, and two lines from below it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.rounding import entries


@dataclass(frozen=True, eq=False)
class Interval:
    """lower and upper (M, C, H, W) of a value of the network as it is evaluated, for each of M images."""

    lower: Tensor
    upper: Tensor

    @property
    def size(self) -> Tensor:
        """The largest magnitude."""
        return torch.maximum(-self.lower, self.upper)

    def met(self, other: Interval) -> Interval:
        """What both allow. NaN stays NaN: nothing is certified then."""
        return Interval(torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))

    def least(self, a: Tensor, box: Box) -> Tensor:
        """A lower bound of <a, value>, (M, R), for rows a (M, R, C, h, w) that are zero outside of `box`."""
        lower, upper, size = (box.of(end)[:, None] for end in (self.lower, self.upper, self.size))
        rows = a.double()
        ends = rows.clamp_min(0) * lower + rows.clamp_max(0) * upper
        return (ends - entries(a[0, 0].numel()) * rows.abs() * size).sum((2, 3, 4))


@dataclass(frozen=True, eq=False)
class Lines:
    """Coefficients (E, M, 1, C, H, W) of the E entries of each window of a maximum: of a line below it and one above.

    The second 1 is for rows: coefficients may be chosen for each row of a backward pass, (E, M, R, C, H, W).
    """

    lower: Tensor
    upper: Tensor
    free: Tensor
    """bool: where the coefficient of the line below may be any in [0, 1]."""
    shift: Tensor | None = None
    """(M, R, C, H, W): added to the coefficients of what a ReLU takes whose phase is held (branching/bounding.py)."""

    @property
    def some(self) -> bool:
        return bool(self.free.any())


@dataclass(frozen=True, eq=False)
class Known:
    """Of one value: its interval, and in terms of x, the values that its layer takes,

        W x + below <= value <= W x + above

    for an affine layer, with a line of `lines` in place of each W for a maximum. below and above (M, C, H, W) hold
    the bias and what rounding can add; faint (M,) is what underflow can add to a row of coefficients as a whole.
    """

    interval: Interval
    below: Tensor
    above: Tensor
    faint: Tensor
    lines: Lines | None = None
