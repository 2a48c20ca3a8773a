"""Gaussian fields with the covariance of SGR section 4.3, for images of any size.

The covariance of two pixels at distance r is exp(-r / zeta) within a channel and half of that across channels: a
Kronecker product, channels by space, whose spatial factor depends on the displacement alone. On a torus at least twice
as wide as the image such a covariance is a circulant matrix, which the FFT diagonalises (Wood & Chan 1994; Dietrich &
Newsam 1997): two fields cost one FFT of the torus, and their covariance is exact where no eigenvalue is negative, as it
is for all of SGR's decay lengths. Negative ones are clipped, and `clipped_energy` says how much that was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.streams import Streams

_WIDEST = 1024
"""A torus is not widened beyond this many pixels a side (or twice the image) for the sake of positive eigenvalues."""
_AT_A_TIME = 2**23
"""Entries of torus held at a time: 8 million complex float32 are 64 MB."""


@dataclass(frozen=True, eq=False)
class Torus:
    """The square root of the circulant covariance of an H x W image laid on a P x Q torus."""

    height: int
    width: int
    amplitudes: Tensor
    """(P, Q) float64: square roots of the eigenvalues over their number."""
    clipped: float
    """Share of the eigenvalues' absolute sum that was negative; 0 where the covariance is exact."""

    @classmethod
    def exponential(cls, height: int, width: int, zeta: float) -> Torus:
        """exp(-r / zeta), r the distance of two pixels, on the smallest torus tried that makes it positive."""
        factor = 1.0
        while True:
            sides = [_fast(math.ceil(factor * (2 * n - 1))) for n in (height, width)]
            across = [torch.arange(p, dtype=torch.float64) for p in sides]
            down, right = (torch.minimum(i, p - i) for i, p in zip(across, sides, strict=True))
            spectrum = torch.fft.fft2(torch.exp(-torch.hypot(down[:, None], right) / zeta)).real
            negative = (-spectrum).clamp_min(0).sum()
            if negative == 0 or max(sides) >= max(_WIDEST, 2 * height, 2 * width):
                break
            factor *= 1.25
        positive = spectrum.clamp_min(0)
        # The eigenvalues' mean is the variance: one, also after a clip.
        amplitudes = (positive / positive.sum()).sqrt()
        return cls(height, width, amplitudes, float(negative / spectrum.abs().sum()))

    def fields(self, white: Tensor) -> Tensor:
        """Complex fields (..., H, W) from independent standard normals (..., 2, P, Q). Real and imaginary part are
        two independent fields of unit variance."""
        real, imaginary = white.unbind(-3)
        spectrum = torch.complex(real, imaginary) * self.amplitudes.to(white)
        rows = torch.fft.fft(spectrum, dim=-1)[..., : self.width]
        fields: Tensor = torch.fft.fft(rows, dim=-2)[..., : self.height, :]
        return fields


@lru_cache(maxsize=8)
def torus(height: int, width: int, zeta: float) -> Torus:
    """The torus for images of H x W pixels and decay length zeta, made once."""
    return Torus.exponential(height, width, zeta)


def clipped_energy(height: int, width: int, zeta: float) -> float:
    """The share of the spatial covariance's energy that had to be clipped: 0 means that fields are exact."""
    return torus(height, width, zeta).clipped


def correlated(streams: Streams, k: int, shape: tuple[int, int, int], zeta: float) -> Tensor:
    """k fields (N, k, C, H, W) for each of N images: unit variance, covariance exp(-r / zeta), half across channels."""
    channels, height, width = shape
    plane = torus(height, width, zeta)
    pairs = -(-k * channels // 2)
    sides = plane.amplitudes.shape
    together = max(1, _AT_A_TIME // (2 * pairs * sides.numel()))
    across = torch.full((channels, channels), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    out: Tensor = streams.like.new_empty((len(streams), k, *shape))
    exact = torch.promote_types(out.dtype, torch.float32)
    mix = torch.linalg.cholesky(across).to(out.device, exact)
    for rows in torch.arange(len(streams)).split(together):
        z = plane.fields(streams.select(rows).normal(pairs, 2, *sides).to(exact))
        both = torch.stack([z.real, z.imag], dim=2).flatten(1, 2)[:, : k * channels]
        out[rows] = torch.einsum("cd,nkdhw->nkchw", mix, both.unflatten(1, (k, channels))).to(out)
    return out


def from_patterns(streams: Streams, k: int, patterns: Tensor) -> Tensor:
    """k fields (N, k, C, H, W) with covariance sum_m p_m p_m^T of patterns (M, C, H, W), without forming that matrix:
    each is a sum of the patterns with standard normal weights."""
    weights = streams.normal(k, len(patterns))
    fields: Tensor = weights @ patterns.to(weights).flatten(1)
    return fields.view(*fields.shape[:2], *patterns.shape[1:])


def patterns_of(pixels: Tensor) -> Tensor:
    """Images (M, C, H, W) made into patterns whose sum of outer products is their covariance, rescaled to a mean
    diagonal of one."""
    if (pixels == pixels[0]).all():
        raise UserError("expected images that differ to estimate a covariance from, got equal ones")
    centred = pixels - pixels.mean(0)
    patterns: Tensor = centred * (math.sqrt(pixels[0].numel()) / torch.linalg.vector_norm(centred))
    return patterns


def _fast(side: int) -> int:
    """The next length with no prime factor above 7, which the FFT is fast on."""
    while True:
        rest = side
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return side
        side += 1
