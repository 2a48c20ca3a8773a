"""Upper bounds of the largest singular values of matrices and of convolutions: never estimates.

Gram iteration (Delattre et al. 2023, *Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram
Iteration*, theorem 1): with G_0 = W and G_{t+1} = G_t* G_t, |W|_2 <= |G_t|_F ^ (2^-t) for every t, and the excess is at
most a factor rank ^ (2^-(t+1)): below 0.4 % for t = 10 and a rank of a thousand. G_t is divided by its Frobenius norm
on the way. In floating point a product of matrices with inner dimension n errs by at most gamma_n |G|_F^2 in Frobenius
norm (Higham 2002, Eq. 3.13; twice the n and some for complex numbers), so with N = G_t / |G_t|_F

    |G_t|_2  <=  |G_t|_F (sqrt(|computed N* N|_2 + gamma) + gamma)

is applied from the last G_t, whose own norm is bounded by Frobenius's, back to the first.

Convolutions. A zero-padded convolution is what a periodic one does to images with a margin of zeros, on outputs of
which some are dropped: its norm is no larger. The periodic one on a torus is block-diagonal in the Fourier basis, one
matrix (outputs, inputs) a frequency. With stride s the pixels of an s x s cell are channels of a coarser torus: still
exact, not the norm of the convolution at stride one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robusteval.certify.propagation.rounding import gamma
from robusteval.certify.propagation.weighted import Conv2d
from robusteval.core import memory

ITERATIONS = 10
AT_ONCE = 2**22
"""Entries of matrices at different frequencies that are held at a time: 64 MiB."""


def largest_singular(matrices: Tensor) -> Tensor:
    """Upper bounds (F,) of the spectral norms of matrices (F, m, n), float64 or complex128."""
    g = matrices if matrices.shape[1] >= matrices.shape[2] else matrices.mH
    pad = gamma(4 * sum(g.shape[1:]) + 64)
    # Squares of tiny entries are zero, the entries are not; what is zero stays zero.
    peak = g.abs().amax((1, 2)).clamp_min(1e-290)
    g = g / peak[:, None, None]
    sizes = []
    for _ in range(ITERATIONS):
        size = _frobenius(g)
        sizes.append(size)
        g = g / size.clamp_min(1e-290)[:, None, None]
        g = g.mH @ g
    bound = _frobenius(g)
    for size in reversed(sizes):
        bound = size * ((bound + pad).sqrt() + pad) * (1 + pad)
    return bound * peak


def _frobenius(g: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(g, dim=(1, 2))
    return size * (1 + gamma(2 * g[0].numel() + 16))


def largest_of_convolution(op: Conv2d) -> float:
    """An upper bound of the spectral norm of a convolution on its plane."""
    return max(_largest_of_group(weight, op) for weight in op.weight.chunk(op.groups))


def _largest_of_group(weight: Tensor, op: Conv2d) -> float:
    view = op.view
    cells = [-(-(n + 2 * p) // s) for n, p, s in zip(view.plane, view.padding, view.stride, strict=True)]
    kernel = _in_cells(_dilated(weight, view.dilation), view.stride)
    down, across = (
        torch.polar(torch.ones_like(angle), angle)
        for angle in (
            _angles(cells[0], cells[0], kernel.shape[2], weight),
            # The kernel is real: frequencies come in conjugate pairs.
            _angles(cells[1] // 2 + 1, cells[1], kernel.shape[3], weight),
        )
    )
    together = memory.rows(AT_ONCE, len(across) * kernel[:, :, 0, 0].numel())
    taps = torch.einsum("xb,oiab->xoia", across, kernel.to(across))
    bound = max(
        largest_singular(torch.einsum("ya,xoia->yxoi", rows, taps).flatten(0, 1)).max().item()
        for rows in down.split(together)
    )
    error = gamma(4 * kernel[0, 0].numel() + 128) * float(torch.linalg.vector_norm(kernel.abs().sum((2, 3))))
    return float((bound + error) * (1 + gamma(4)))


def _angles(frequencies: int, period: int, taps: int, like: Tensor) -> Tensor:
    """2 pi f t / period, (frequencies, taps), reduced to one turn in whole numbers."""
    turns = torch.arange(frequencies)[:, None] * torch.arange(taps) % period
    return turns.to(like) * (2 * math.pi / period)


def _dilated(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The kernel with the zeros of its dilation between its taps."""
    sides = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    spread = weight.new_zeros(*weight.shape[:2], *sides)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _in_cells(weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """The kernel (O, I, h, w) with the pixels of a stride's cell as channels, (O, I * cell, h', w')."""
    (h, w), (down, right) = weight.shape[2:], stride
    whole = functional.pad(weight, (0, -w % right, 0, -h % down))
    cells = whole.reshape(*whole.shape[:2], whole.shape[2] // down, down, whole.shape[3] // right, right)
    return cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
