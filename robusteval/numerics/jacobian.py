"""The Jacobian of what a network computes, with respect to the pixels: as a matrix, or as its products alone.

Rows are outputs, columns are pixel values: J (F, D) for each image, D = C * H * W, in output units per pixel unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import grad

from robusteval.core import memory
from robusteval.core.errors import UnsupportedError, first_line
from robusteval.models.classifier import Classifier
from robusteval.models.recording import check_recorded, no_gradient, recorded

Map = Callable[[Tensor], Tensor]
"""Images (M, C, H, W) -> outputs (M, F), differentiable."""
Of = Literal["features", "logits"]
"""The penultimate features (phi^{L-1} of OpNorm: what the last linear layer takes), or the logits."""
ENTRIES = 2**25
"""Jacobian entries held at a time: 128 MB in float32 and, for their products, 256 MB in float64."""


def outputs(classifier: Classifier, of: Of) -> Map:
    """The map of which the Jacobian is taken; its evaluations are counted. Raises UnsupportedError where a gradient is
    asked for and the model lets none through."""
    f = classifier.features if of == "features" else classifier.__call__

    def output(pixels: Tensor) -> Tensor:
        with recorded(classifier.name):
            value = f(pixels)
        asked = torch.is_grad_enabled() and pixels.requires_grad
        return check_recorded(classifier.name, value) if asked else value

    return output


def width(f: Map, pixels: Tensor) -> int:
    """F, how many outputs there are, by one forward of the first image."""
    with torch.no_grad():
        return f(pixels[:1]).shape[1]


def jacobian(f: Map, pixels: Tensor) -> Tensor:
    """J at images (N, C, H, W), (N, F, D): one backward pass of the whole batch for each output."""
    with torch.enable_grad():
        x = pixels.detach().requires_grad_()
        value = f(x)
    found = pixels.new_empty(*value.shape, pixels[0].numel())
    for i in range(value.shape[1]):
        unit = torch.zeros_like(value)
        unit[:, i] = 1
        try:
            (row,) = grad(value, x, unit, retain_graph=True)
        except RuntimeError as error:
            raise no_gradient("the network", first_line(error)) from error
        found[:, i] = row.flatten(1)
    return found


def jacobians(f: Map, pixels: Tensor, batch_size: int) -> Iterator[Tensor]:
    """J of images (N, C, H, W) in the order of the images, (n, F, D) at a time, with at most ENTRIES entries (of
    one image at least)."""
    if len(pixels):
        yield from (jacobian(f, part) for part in pixels.split(min(batch_size, at_once(width(f, pixels), pixels))))


def at_once(outputs: int, pixels: Tensor) -> int:
    """Of how many images (N, C, H, W) the gradients of so many outputs may be held at a time: those of one at least."""
    return memory.rows(ENTRIES, outputs * pixels[0].numel())


class Linearised:
    """f at images (N, C, H, W) as the linear map J of each: recorded once, then each product is one pass.

    The graph of y = f(x) gives u -> J^T u by a pass back. That pass is linear in u, and is recorded too: the pass back
    through it gives v -> J v, without computing f again. Raises UnsupportedError where a layer cannot be
    differentiated twice.
    """

    def __init__(self, f: Map, pixels: Tensor) -> None:
        with torch.enable_grad():
            self.x = pixels.detach().requires_grad_()
            self.value = f(self.x)
            self.u = torch.zeros_like(self.value).requires_grad_()
            try:
                (self.gradient,) = grad(self.value, self.x, self.u, create_graph=True)
            except RuntimeError as error:
                raise UnsupportedError(_twice(error)) from error

    def push(self, v: Tensor) -> Tensor:
        """J v for directions v (N, k, D), (N, k, F), in the type of v."""
        passes = v.to(self.x).unbind(1)
        try:
            columns = [grad(self.gradient, self.u, p.view_as(self.x), retain_graph=True)[0] for p in passes]
        except RuntimeError as error:
            raise UnsupportedError(_twice(error)) from error
        return torch.stack(columns, dim=1).to(v)

    def pull(self, u: Tensor) -> Tensor:
        """J^T u for weights u (N, k, F), (N, k, D), in the type of u."""
        passes = u.to(self.x).unbind(1)
        rows = [grad(self.value, self.x, p, retain_graph=True)[0].flatten(1) for p in passes]
        return torch.stack(rows, dim=1).to(u)


def _twice(error: RuntimeError) -> str:
    return f"expected layers that can be differentiated twice, got: {str(error).splitlines()[0]}"


def spectrum(j: Tensor) -> Tensor:
    """All singular values of matrices (N, F, D), descending, (N, min(F, D)) float64.

    Roots of the eigenvalues of the smaller of J J^T and J^T J in float64, a fraction of the cost of a decomposition:
    values below about 1e-8 of the largest are rounding. NaN for a matrix with an entry that is not finite.
    """
    gram, finite = squared(j)
    values = torch.linalg.eigvalsh(gram).flip(1).clamp_min(0).sqrt()
    return torch.where(finite[:, None], values, torch.nan)


def squared(j: Tensor) -> tuple[Tensor, Tensor]:
    """The smaller of J J^T and J^T J for matrices (N, F, D), float64, and which of them are finite, (N,) bool; the
    others are zero."""
    j = j.double()
    gram = j @ j.mT if j.shape[1] <= j.shape[2] else j.mT @ j
    finite = gram.isfinite().flatten(1).all(1)
    return torch.where(finite[:, None, None], gram, 0.0), finite
