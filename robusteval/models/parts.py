"""A network evaluated on a few images at a time, where memory does not suffice for all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(network: Callable[[Tensor], Tensor], size: int) -> Callable[[Tensor], Tensor]:
    """The same function of pixels (M, C, H, W), row by row, evaluated on at most `size` of them at a time. On the way
    back each part is evaluated again, with the random numbers of the first time: a graph of more than `size` images is
    never kept (Chen et al., 2016, Training deep nets with sublinear memory cost)."""

    def cut(pixels: Tensor) -> Tensor:
        if len(pixels) <= size:
            return network(pixels)
        parts = pixels.split(size)
        if torch.is_grad_enabled() and pixels.requires_grad:
            return torch.cat([checkpoint(network, part, use_reentrant=False) for part in parts])
        return torch.cat([network(part) for part in parts])

    return cut
