"""All l_p arithmetic: sizes, distances, projections and steepest ascent, over batches of images.

Tensors are (N, ...): everything behind the first dimension belongs to one image. Units are those of the
pixels, which lie in [0, 1]. torch is imported by the arithmetic alone: reports name norms without it.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BUDGET_TOLERANCE = 1e-6
"""How much of a budget, relative, a witness may exceed it by: the rounding of float32 pixels. Stated here only."""


def flat(v: Tensor) -> Tensor:
    """(N, ...) -> (N, D)."""
    return v.flatten(1)


def column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) -> (N, 1, ..., 1), so that it multiplies images shaped as `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


class Norm(StrEnum):
    """L1, L2 or Linf, which are norms, and L0, the number of changed entries, which has a size only."""

    L0 = "l0"
    L1 = "l1"
    L2 = "l2"
    LINF = "linf"

    @property
    def p(self) -> float:
        return {Norm.L0: 0.0, Norm.L1: 1.0, Norm.L2: 2.0, Norm.LINF: math.inf}[self]

    @property
    def dual(self) -> Norm:
        """The norm with 1/p + 1/q = 1: |<u, v>| <= |u|_p |v|_q (Hölder)."""
        return {Norm.L1: Norm.LINF, Norm.L2: Norm.L2, Norm.LINF: Norm.L1}[self]

    @property
    def symbol(self) -> str:
        """As people read it: L0, L1, L2, Linf."""
        return self.value.capitalize()

    def size(self, v: Tensor) -> Tensor:
        """|v|_p per image, (N,); of L0 the number of entries that are not zero."""
        import torch

        if self is Norm.LINF:
            return flat(v).abs().amax(1)  # many times faster than vector_norm
        size: Tensor = torch.linalg.vector_norm(flat(v), ord=self.p, dim=1)
        return size

    def scale_to(self, v: Tensor, radius: float | Tensor) -> Tensor:
        """v rescaled to size `radius` (a number or (N,)); zero stays zero.

        Divided by its largest entry first: the squares of a vanishing gradient are zero, the gradient is not.
        """
        import torch

        peak = Norm.LINF.size(v).clamp_min(torch.finfo(v.dtype).tiny)
        unit = v / column(peak, v)
        return unit * column(radius / self.size(unit).clamp_min(0.5), v)

    def project(self, v: Tensor, radius: float | Tensor) -> Tensor:
        """The Euclidean projection on the ball of `radius` (a number or (N,)); exactly v inside it."""
        import torch

        bound = torch.as_tensor(radius, dtype=v.dtype, device=v.device).expand(len(v))
        if self is Norm.LINF:
            limit = column(bound, v)
            return v.clamp(-limit, limit)
        size = self.size(v)
        inside = column(size <= bound, v)
        if self is Norm.L2:
            return torch.where(inside, v, self.scale_to(v, bound))
        return torch.where(inside, v, _project_l1(v, bound))

    def steepest(self, gradient: Tensor) -> Tensor:
        """The v with |v|_p <= 1 that maximises <v, gradient> (OpNorm Lemma 1); zero where the gradient is.

        For L1 the whole unit goes to one coordinate of the largest magnitude, the first of equals.
        """
        import torch

        if self is Norm.LINF:
            return gradient.sign()
        if self is Norm.L2:
            return self.scale_to(gradient, 1.0)
        rows = flat(gradient)
        best = rows.abs().argmax(dim=1, keepdim=True)
        return torch.zeros_like(rows).scatter(1, best, rows.gather(1, best).sign()).view_as(gradient)


def _project_l1(v: Tensor, radius: Tensor) -> Tensor:
    """Soft-thresholding at the level that leaves exactly `radius` (Duchi et al. 2008).

    What a level leaves is convex and piecewise linear in it: Newton's steps from 0 stay below the answer and end in its
    piece (Michelot 1986), after fewer passes over the entries than a sort takes.
    """
    import torch

    magnitude, bound = flat(v).abs(), radius[:, None]
    level = torch.zeros_like(bound)
    for _ in range(magnitude.shape[1] + 1):
        left = (magnitude - level).clamp_min(0)
        later = level + (left.sum(1, keepdim=True) - bound) / (left > 0).sum(1, keepdim=True).clamp_min(1)
        risen = later > level * (1 + 4 * torch.finfo(v.dtype).eps)
        level = torch.where(risen, later, level)
        if not risen.any():
            break
    return ((magnitude - level).clamp_min(0) * flat(v).sign()).view_as(v)


BALLS = (Norm.L1, Norm.L2, Norm.LINF)
"""Those with convex balls: with a dual, projections and steepest ascent."""
