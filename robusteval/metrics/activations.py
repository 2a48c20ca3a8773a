"""Which linear piece of each ReLU an image falls on, whatever way the network calls it.

The operators themselves are watched, below modules, functions, in-place methods and loaded programs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier

_aten = torch.ops.aten
Kinks = Callable[..., Sequence[float]]


def _smooth(*_: Any) -> Sequence[float]:
    return ()


def _zero(*_: Any) -> Sequence[float]:
    return (0.0,)


def _lower_bound(low: Any = None, high: Any = None) -> Sequence[float]:
    """A clamp from below is a shifted ReLU; one from both sides is how pixels are kept in range, not a neuron."""
    return (low,) if isinstance(low, int | float) and high is None else ()


def _bounds(low: float = -1.0, high: float = 1.0) -> Sequence[float]:
    return (low, high)


def _threshold(threshold: float, *_: Any) -> Sequence[float]:
    return (threshold,)


_KINKS: dict[Any, Kinks] = {
    _aten.relu: _zero,
    _aten.relu_: _zero,
    _aten.leaky_relu: _zero,
    _aten.leaky_relu_: _zero,
    _aten._prelu_kernel: _zero,
    _aten.rrelu_with_noise: _zero,
    _aten.threshold: _threshold,
    _aten.threshold_: _threshold,
    _aten.clamp_min: _lower_bound,
    _aten.clamp_min_: _lower_bound,
    _aten.clamp: _lower_bound,
    _aten.clamp_: _lower_bound,
    _aten.hardtanh: _bounds,
    _aten.hardtanh_: _bounds,
}
"""Operator -> where it bends, from its arguments but the first. torch calls ReLU6 a hardtanh too."""


class _Watch(TorchDispatchMode):
    """While it is entered, keeps the piece of each entry of each ReLU's input, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pieces: list[Tensor] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch would load its compiler for two seconds to leave this class out of it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kinks: Kinks = _KINKS.get(func.overloadpacket, _smooth)
        bends = kinks(*args[1:])
        if bends:
            # Before the call, which may overwrite its input.
            self.pieces.append(torch.stack([args[0] > b for b in bends]).sum(0, dtype=torch.uint8))
        return func(*args, **(kwargs or {}))


def activation_pattern(classifier: Classifier, pixels: Tensor) -> Tensor:
    """The pieces of all m ReLUs at images (N, C, H, W), (N, m) uint8: 0 below the kink or at it, 1 above it.

    OpNorm section 3: phi_x in {0, 1}^m. The paper gives a pre-activation of exactly zero 1 by its formula and 0 by its
    words; here it is 0, as in the Jacobian that torch computes. Counted are relu, leaky_relu, prelu, rrelu,
    threshold, a clamp from below, and hardtanh and relu6, which have a third piece, 2. Raises UnsupportedError where
    the network has none of them, or one whose first dimension is not the batch.
    """
    with torch.no_grad(), _Watch() as watch:
        classifier(pixels)
    if not watch.pieces:
        raise UnsupportedError(f"expected a network with ReLUs to compare activations of, got {classifier.name}")
    strange = next((p for p in watch.pieces if p.dim() == 0 or len(p) != len(pixels)), None)
    if strange is not None:
        raise UnsupportedError(
            f"expected ReLUs with the batch of {len(pixels)} in their first dimension, got {classifier.name} with "
            f"one of shape {tuple(strange.shape)}"
        )
    return torch.cat([piece.flatten(1) for piece in watch.pieces], dim=1)
