"""The Jacobian of what a network computes, with respect to the pixels: as a matrix, or as its products alone.

Rows are outputs, columns are pixel values: J (F, D) for each picture, D = C * H * W, in output units per pixel unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from robusteval.classifier import Classifier

Map = Callable[[Tensor], Tensor]
"""Pictures (M, C, H, W) -> outputs (M, F), differentiable."""
Of = Literal["features", "logits"]
"""The penultimate features (phi^{L-1} of OpNorm: what the last linear layer takes), or the logits."""
ENTRIES = 2**25
"""Jacobian entries held at a time: 128 MB in float32 and, for their products, 256 MB in float64."""


def outputs(classifier: Classifier, of: Of) -> Map:
    """The map of which the Jacobian is taken; its evaluations are counted."""
    return classifier.features if of == "features" else classifier.__call__


def jacobian(f: Map, pixels: Tensor) -> Tensor:
    """J at pictures (N, C, H, W), (N, F, D): one backward pass of the whole batch for each output."""
    with torch.enable_grad():
        x = pixels.detach().requires_grad_()
        values = f(x).unbind(1)
        rows = [torch.autograd.grad(v.sum(), x, retain_graph=i + 1 < len(values)) for i, v in enumerate(values)]
    return torch.stack([row.flatten(1) for (row,) in rows], dim=1)


def jacobians(f: Map, pixels: Tensor, batch_size: int) -> Iterator[Tensor]:
    """J of pictures (N, C, H, W) in the order of the pictures, (n, F, D) at a time, with at most ENTRIES entries (of
    one picture at least)."""
    # The first picture alone tells how many outputs there are, and so how many Jacobians fit in memory.
    first = jacobian(f, pixels[:1])
    yield first
    size = max(1, min(batch_size, ENTRIES // first.numel()))
    for part in pixels[1:].split(size):
        if len(part):
            yield jacobian(f, part)


def pushed(f: Map, pixels: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) (N, F) and J v (N, F) for directions v (N, C, H, W), in one pass forward."""
    with torch.no_grad(), forward_ad.dual_level():
        value, tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(pixels.detach(), directions)))
        # A constant map has no tangent at all.
        return value, torch.zeros_like(value) if tangent is None else tangent


def pulled(f: Map, pixels: Tensor, weights: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """f(x) (N, F) and J^T u (N, C, H, W) for the weights u (N, F) that the values are given, in one pass back."""
    with torch.enable_grad():
        x = pixels.detach().requires_grad_()
        value = f(x)
        (gradient,) = torch.autograd.grad(value, x, weights(value.detach()))
    return value.detach(), gradient


def spectrum(j: Tensor) -> Tensor:
    """All singular values of matrices (N, F, D), descending, (N, min(F, D)) float64.

    Roots of the eigenvalues of the smaller of J J^T and J^T J in float64, a fifth of the cost of a full decomposition:
    values below about 1e-8 of the largest are rounding.
    """
    j = j.double()
    gram = j @ j.mT if j.shape[1] <= j.shape[2] else j.mT @ j
    squares: Tensor = torch.linalg.eigvalsh(gram).flip(1)
    return squares.clamp_min(0).sqrt()
