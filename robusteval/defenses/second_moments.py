"""Sigma of SGR: the second moments of perturbations, as a matrix or as covariance functions (section 3.3).

Both are tensors, so that they average and save alike, with a mean diagonal entry of one. A matrix is (D, D) for
D = C * H * W pixel values. Covariance functions are (C, C, R): for each pair of channels the covariance of two pixels
whose distance rounds to r = 0, ..., R - 1 pixels (Eq. 16); the matrix that they stand for is never formed: products
with it come from correlations of images, by FFT.
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from robusteval.numerics.displacements import displacements

Shape = tuple[int, int, int]
"""(C, H, W)."""
AT_A_TIME = 512
"""Images whose spectra are held together."""


def matrix_of(xi: Tensor) -> Tensor:
    """Eq. 15: the mean of xi xi^T over perturbations (N, C, H, W), rescaled, (D, D)."""
    rows = xi.flatten(1)
    return rescaled_matrix(rows.T @ rows / len(rows))


def functions_of(xi: Tensor) -> Tensor:
    """Eq. 16: the means of xi_i xi_j over all pixel pairs of a rounded distance, rescaled, (C, C, R)."""
    shape = (xi.shape[1], xi.shape[2], xi.shape[3])
    parts = xi.split(AT_A_TIME)
    moments = torch.stack([correlations(part) * (len(part) / len(xi)) for part in parts]).sum(0)
    ring = rings(shape).to(xi.device).flatten()
    count = int(ring.max()) + 1
    totals = moments.new_zeros(count).index_add_(0, ring, pair_counts(shape).to(moments).flatten())
    sums = moments.new_zeros(*moments.shape[:2], count).index_add_(2, ring, moments.flatten(2))
    return rescaled_functions(sums / totals.clamp_min(1))


def correlations(xi: Tensor) -> Tensor:
    """The mean over images xi (N, C, H, W) of sum_p xi_c(p) xi_d(p + v) for every displacement v,
    (C, C, 2H - 1, 2W - 1) with v = 0 in the middle; differentiable, by one FFT of each image."""
    height, width = xi.shape[2:]
    torus = [next_fast_len(2 * n - 1, real=True) for n in (height, width)]
    spectrum = torch.fft.rfft2(xi, torus)
    powers = torch.einsum("ncpq,ndpq->cdpq", spectrum.conj(), spectrum) / len(xi)
    rolled = torch.fft.irfft2(powers, torus).roll((height - 1, width - 1), (-2, -1))
    found: Tensor = rolled[..., : 2 * height - 1, : 2 * width - 1]
    return found


def pair_counts(shape: Shape) -> Tensor:
    """How many pixel pairs have each displacement, (2H - 1, 2W - 1) float64."""
    down, right = displacements(shape[1:])
    return (shape[1] - down.abs()) * (shape[2] - right.abs())


def rings(shape: Shape) -> Tensor:
    """The rounded length of every displacement, (2H - 1, 2W - 1) int64, zero in the middle."""
    return torch.hypot(*displacements(shape[1:])).round().long()


def quadratic_of_matrix(sigma: Tensor, g: Tensor) -> Tensor:
    """The mean of g^T Sigma g over images g (N, C, H, W), a scalar."""
    rows = g.flatten(1)
    return (rows * (rows @ sigma)).sum() / len(rows)


def quadratic_of_functions(sigma: Tensor, moments: Tensor, shape: Shape) -> Tensor:
    """The same from the `correlations` of g, without forming Sigma: sum over v of K(|v|) times the correlation at v."""
    return (sigma[:, :, rings(shape).to(sigma.device)] * moments).sum()


def expanded(sigma: Tensor, shape: Shape) -> Tensor:
    """The matrix (D, D) that covariance functions stand for."""
    channels, height, width = shape
    down, right = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    distance = torch.hypot(down[:, None] - down + 0.0, right[:, None] - right + 0.0).round().long()
    blocks = sigma[:, :, distance.to(sigma.device)]
    size = channels * height * width
    return blocks.permute(0, 2, 1, 3).reshape(size, size)


def long_range_functions(shape: Shape, zeta: float) -> Tensor:
    """Covariance functions exp(-r / zeta), half of that across channels (section 4.3), (C, C, R)."""
    across = torch.full((shape[0], shape[0]), 0.5).fill_diagonal_(1.0)
    return across[:, :, None] * torch.exp(-torch.arange(int(rings(shape).max()) + 1) / zeta)


def white(shape: Shape) -> Tensor:
    """Covariance functions of the identity, (C, C, R)."""
    return torch.eye(shape[0])[:, :, None] * (torch.arange(int(rings(shape).max()) + 1) == 0)


def rescaled_matrix(sigma: Tensor) -> Tensor:
    """With a mean diagonal entry of one; zero stays zero."""
    return sigma / _positive(sigma.diagonal().mean())


def rescaled_functions(sigma: Tensor) -> Tensor:
    """The same of covariance functions."""
    return sigma / _positive(sigma[:, :, 0].diagonal().mean())


def _positive(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)
