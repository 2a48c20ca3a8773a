"""What depends on the displacement of two pixels: correlations over all pairs of them, and means over rings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from scipy.fft import next_fast_len
from torch import Tensor


def displacement_moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """E[x_c(p) x_d(p + v)] of images (n, C, H, W), given a few at a time: the mean over the images and over all
    pixels p for which p + v is one too, for every displacement v, (C, C, 2H - 1, 2W - 1) float64 with v = 0 in the
    middle; and the number of these pixels, (2H - 1, 2W - 1)."""
    total, n, shape = torch.tensor(0.0), 0, (0, 0)
    for part in parts:
        shape = (part.shape[2], part.shape[3])
        total = total + _power(part)
        n += len(part)
    height, width = shape
    sums = torch.fft.irfft2(total, _torus(shape)).roll((height - 1, width - 1), (-2, -1))
    down, right = displacements(shape)
    pairs = ((height - down.abs()) * (width - right.abs())).to(sums)
    return sums[..., : 2 * height - 1, : 2 * width - 1] / (n * pairs), pairs


def _power(part: Tensor) -> Tensor:
    """The cross spectra of the channels of images (n, C, H, W), summed over them."""
    # On a torus this wide no displacement wraps around: the correlation is the sum over real pairs.
    spectrum = torch.fft.rfft2(part.double(), _torus((part.shape[2], part.shape[3])))
    return torch.einsum("ncpq,ndpq->cdpq", spectrum.conj(), spectrum)


def displacements(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of pixels of an H x W image: down (2H - 1, 1) and to the right (1, 2W - 1), float64."""
    down, right = (torch.arange(1 - n, n, dtype=torch.float64) for n in shape)
    return down[:, None], right[None]


def padded_size(shape: tuple[int, int, int]) -> int:
    """Complex numbers that displacement_moments holds for each image (C, H, W)."""
    height, width = _torus(shape[1:])
    return shape[0] * height * (width // 2 + 1)


def ring_means(values: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the rings (R,) and the weighted means of values (..., P, Q) over them, (..., R) float64.

    Ring r holds the points whose `distances` (P, Q) from the centre round to r = 0, 1, 2, ..., as SGR section 3.3
    rounds displacements; a ring without points is left out. Its place is the weighted mean of their distances, not r
    itself, so that a function of the distance is read off where it was measured. `weights` (P, Q) are not negative.
    """
    distances, weights = distances.to(values.device), weights.to(values.device, torch.float64).flatten()
    ring = distances.round().long().flatten()
    totals = weights.new_zeros(int(ring.max()) + 1).index_add_(0, ring, weights)
    filled = totals > 0

    def mean(field: Tensor) -> Tensor:
        weighted = field.double().flatten(-2) * weights
        sums = weighted.new_zeros(*field.shape[:-2], len(totals)).index_add_(-1, ring, weighted)
        return sums[..., filled] / totals[filled]

    return mean(distances), mean(values)


def _torus(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = (next_fast_len(2 * n - 1, real=True) for n in shape)
    return height, width
