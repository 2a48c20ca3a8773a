"""Singular values of Jacobians and their right singular vectors: all of a matrix, or the leading ones without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from robusteval.core import memory
from robusteval.core.streams import Streams
from robusteval.numerics.jacobian import ENTRIES, Linearised, Map, jacobians, spectrum, squared, width

TOLERANCE = 1e-3
"""Relative accuracy of singular values that are found without the matrix; a tenth of it where vectors are, too."""
LEADING = 20
"""How many are found of a matrix that does not fit, where all were asked for."""
PASSES = 25
"""What a direction of the iteration costs at most, about, in backward passes: where all outputs take fewer, the matrix
is made."""
GUARD = 3
"""Directions iterated beside those asked for: without them, the second largest could pass for the largest."""
MARGIN = 8
"""How far below the accuracy that is asked for the residual must be: of values that lie close together, a basis may
hold a mixture that seems to be one of them, and the smaller its residual, the less likely that is."""
BASIS = 6
"""Blocks of directions that the iteration holds; then the better half of what they span goes on."""
STEPS = 100
"""Blocks before it gives up."""


@dataclass(frozen=True)
class Singular:
    """values (N, k) float64, descending, and right singular vectors (N, k, D) float64 of unit length, one a value; NaN
    from the first rank on that did not converge.

    `resolution`: values nearer to each other or to zero than this share of the largest are not told apart, and their
    vectors are arbitrary within the space that they span together.
    """

    values: Tensor
    vectors: Tensor
    resolution: float


def singular_values(f: Map, pixels: Tensor, ranks: int | None, batch_size: int, streams: Streams) -> Tensor:
    """The largest `ranks` singular values (all for None) at images (N, C, H, W), descending, (N, k) float64.

    From the whole Jacobian where that fits and is cheaper, else by `leading`: see `without_matrix`.
    """
    if k := without_matrix(f, pixels, ranks):
        return torch.cat([part.values for part in _leading(f, pixels, k, streams, TOLERANCE)])
    return torch.cat([spectrum(j)[:, :ranks] for j in jacobians(f, pixels, batch_size)])


def singular_vectors(
    f: Map, pixels: Tensor, ranks: int | None, batch_size: int, streams: Streams
) -> Iterator[Singular]:
    """The same with vectors, in the order of the images, as many at a time as fit in memory. All of a matrix that
    fits: at least `ranks`."""
    if k := without_matrix(f, pixels, ranks):
        yield from _leading(f, pixels, k, streams, TOLERANCE / 10)
    else:
        yield from map(decompose, jacobians(f, pixels, batch_size))


def without_matrix(f: Map, pixels: Tensor, ranks: int | None) -> int:
    """How many leading singular values are to be found without the Jacobian; 0 where the Jacobian is better.

    Better without: that of one image has more than ENTRIES entries, or needs far more backward passes.
    """
    outputs, inputs = width(f, pixels), pixels[0].numel()
    fits = outputs * inputs <= memory.allowed(ENTRIES)
    if fits and ranks is None:
        return 0
    k = min(ranks or LEADING, outputs, inputs // 2 - GUARD)
    return max(k, 0) if not fits or PASSES * (k + GUARD) < outputs else 0


def decompose(j: Tensor) -> Singular:
    """All singular values of matrices (N, F, D) and right singular vectors, by the eigenvectors of the smaller of J J^T
    and J^T J in float64.

    Values below about 1e-8 of the largest are rounding. The resolution is 1e-5: single precision in J turns vectors
    whose values are as near as that. NaN for a matrix with an entry that is not finite.
    """
    gram, finite = squared(j)
    squares, vectors = torch.linalg.eigh(gram)
    values, vectors = squares.flip(1).clamp_min(0).sqrt(), vectors.flip(2).mT
    if j.shape[1] <= j.shape[2]:
        vectors = normalize(vectors @ j.double(), dim=2)
    trusted = torch.where(finite, 1.0, torch.nan)[:, None]
    return Singular(trusted * values, trusted[:, :, None] * vectors, 1e-5)


def leading(
    f: Map, pixels: Tensor, k: int, streams: Streams, tolerance: float = TOLERANCE, steps: int = STEPS
) -> Singular:
    """The k largest singular values at images (N, C, H, W), 2 (k + 3) <= D, and their vectors, by products with J
    and J^T alone: block Krylov iteration of J^T J (Golub and Kahan's, a block of k + 3 directions at a time) with the
    Rayleigh-Ritz values of the whole basis, restarted from its better half.

    Stops, image by image, when |J^T J v - s^2 v| <= tolerance / 8 * s^2 for each pair (s, v), or it is rounding. Then
    a singular value lies within a sixteenth of the tolerance of s, relative, and s exceeds the one of its rank by
    rounding only. That it is not one of a lower rank rests on the random start: where more than k + 3 values crowd
    within a percent, one may be passed over, and s is off by their distance (on matrices made for it, from less than
    one of 100 starts). Pairs that do not converge in `steps` blocks, and all behind them, are NaN.

    Each block takes k + 3 passes forward and as many back, of the images that have not converged.
    """
    n, inputs, block = len(pixels), pixels[0].numel(), k + GUARD
    values = torch.full((n, k), torch.nan, dtype=torch.float64, device=pixels.device)
    vectors = values[:, :, None].repeat(1, 1, inputs)
    rows, most = torch.arange(n, device=pixels.device), min(BASIS * block, inputs)
    rounding = 16 * torch.finfo(pixels.dtype).eps
    line = Linearised(f, pixels)
    basis = _orthonormal(streams.normal(block, inputs).double())
    images = line.push(basis)
    for step in range(steps):
        squares, mix = torch.linalg.eigh((images @ images.mT).nan_to_num(0, 0, 0))
        squares, mix = squares.flip(1), mix.flip(2).mT
        s2, v = squares[:, :block, None].clamp_min(0), mix[:, :block] @ basis
        residual = line.pull(mix[:, :block] @ images) - s2 * v
        good = (residual.norm(dim=2, keepdim=True) <= tolerance / MARGIN * s2 + rounding * s2[:, :1])[:, :k]
        done = good.all(1)[:, 0] | ~residual.isfinite().all(2).all(1) | (step == steps - 1)
        trusted = torch.where(good.cumprod(1) > 0, 1.0, torch.nan)[done]
        values[rows[done]] = (trusted * s2[done, :k].sqrt())[:, :, 0]
        vectors[rows[done]] = trusted * v[done, :k]
        if done.all():
            break
        if done.any():
            rows = rows[~done]
            line = Linearised(f, pixels[rows])
            basis, images, mix, residual = (t[~done] for t in (basis, images, mix, residual))
        if basis.shape[1] + block > most:
            kept = mix[:, : most // 2]
            basis, images = kept @ basis, kept @ images
        fresh = _orthonormal(residual, basis)
        basis, images = torch.cat([basis, fresh], dim=1), torch.cat([images, line.push(fresh)], dim=1)
    return Singular(values, vectors, max(10 * tolerance, 1e-5))


def _leading(f: Map, pixels: Tensor, k: int, streams: Streams, tolerance: float) -> Iterator[Singular]:
    """`leading` of as many images at a time as fit in memory."""
    size = memory.rows(ENTRIES, BASIS * (k + GUARD) * pixels[0].numel())
    for rows in torch.arange(len(pixels)).split(size):
        yield leading(f, pixels[rows], k, streams.select(rows), tolerance)


def _orthonormal(v: Tensor, basis: Tensor | None = None) -> Tensor:
    """Orthonormal rows (N, k, D), orthogonal to those of `basis` (N, m, D). Where nothing is left of a row, it becomes
    another such direction: the first pass gives each unit length, the second takes away what they share with the
    basis by then."""
    v = normalize(v, dim=2)
    for _ in range(2):
        if basis is not None:
            v = v - (v @ basis.mT) @ basis
        v = torch.linalg.qr(v.mT).Q.mT
    return v
