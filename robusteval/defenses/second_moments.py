"""Sigma of SGR: the second moments of perturbations, as a matrix or as covariance functions (section 3.3).

Both are tensors, so that they average and save alike, with a mean diagonal entry of one. A matrix is (D, D) for
D = C * H * W pixel values. Covariance functions are (C, C, R): for each pair of channels the covariance of two pixels
whose distance rounds to r = 0, ..., R - 1 pixels (Eq. 16); the matrix that they stand for is applied by FFT and never
formed.
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from robusteval.numerics.displacements import displacement_moments, displacements

Shape = tuple[int, int, int]
"""(C, H, W)."""


def matrix_of(xi: Tensor) -> Tensor:
    """Eq. 15: the mean of xi xi^T over perturbations (N, C, H, W), rescaled, (D, D)."""
    rows = xi.flatten(1)
    return rescaled_matrix(rows.T @ rows / len(rows))


def functions_of(xi: Tensor) -> Tensor:
    """Eq. 16: the means of xi_i xi_j over all pixel pairs of a rounded distance, rescaled, (C, C, R)."""
    moments, pairs = displacement_moments([xi])
    shape = (xi.shape[1], xi.shape[2], xi.shape[3])
    ring, weights = rings(shape).to(xi.device).flatten(), pairs.to(xi.device).flatten()
    totals = weights.new_zeros(int(ring.max()) + 1).index_add_(0, ring, weights)
    sums = (moments.flatten(2) * weights).to(weights)
    means = sums.new_zeros(*sums.shape[:2], len(totals)).index_add_(2, ring, sums) / totals.clamp_min(1)
    return rescaled_functions(means.to(xi))


def rings(shape: Shape) -> Tensor:
    """The rounded length of every displacement, (2H - 1, 2W - 1) int64, zero in the middle."""
    return torch.hypot(*displacements(shape[1:])).round().long()


def apply_matrix(sigma: Tensor, g: Tensor) -> Tensor:
    """Sigma g for images g (N, C, H, W)."""
    return (g.flatten(1) @ sigma.to(g)).view_as(g)


def apply_functions(sigma: Tensor, g: Tensor) -> Tensor:
    """Sigma g for images g (N, C, H, W): a convolution with the covariance functions, on a torus that nothing wraps
    around."""
    height, width = g.shape[2:]
    torus = [next_fast_len(2 * n - 1, real=True) for n in (height, width)]
    kernel = torch.zeros(*sigma.shape[:2], *torus).to(g)
    field = sigma.to(g)[:, :, rings((g.shape[1], height, width)).to(g.device)]
    kernel[..., : 2 * height - 1, : 2 * width - 1] = field
    # The middle of the field, no displacement, goes to the corner of the torus.
    spectrum = torch.fft.rfft2(kernel.roll((1 - height, 1 - width), (-2, -1)))
    convolved = torch.einsum("cdpq,ndpq->ncpq", spectrum, torch.fft.rfft2(g, torus))
    applied: Tensor = torch.fft.irfft2(convolved, torus)[..., :height, :width]
    return applied


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
