"""A pass through a network in which the first ReLU gives the mean of its output under noise on the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

from robusteval.core.errors import UnsupportedError

_RELUS = {"relu"}
_SHIFTS = {"add", "sub"}
_SCALES = {"mul", "div", "truediv", "true_divide"}
_RESHAPES = {"flatten", "view", "reshape"}
_READS = {"size", "dim", "get", "stride", "is_floating_point", "len"}


def rectified_mean(mean: Tensor, variance: Tensor) -> Tensor:
    """E max(0, z) of z ~ N(mean, variance), entry by entry: mean Phi(mean / s) + s phi(mean / s) (Moments, theorem 1).
    Where the variance is zero, max(0, mean)."""
    s = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
    ratio = mean / s
    density = torch.exp(-0.5 * ratio.square()) / math.sqrt(2 * math.pi)
    rectified: Tensor = mean * torch.special.ndtr(ratio) + s * density
    return rectified


class MeanAfterRelu(TorchFunctionMode):
    """While it is entered, the values on the way from `pixels` to the first ReLU carry their variances along, and that
    ReLU gives `rectified_mean` of them. All of it is differentiable in the weights.

    pixels, variance: (N, C, H, W), of independent noise. On the way may stand sums and products with constants,
    reshapes, and a single linear or convolutional layer, whose weights are squared entry by entry for the variances
    (Moments, section 3). Raises UnsupportedError that names anything else.
    """

    def __init__(self, pixels: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.value, self.variance = pixels, variance
        self.passed: list[Tensor] = []
        """What `value` was before: no constants, whatever the network makes of them later."""
        self.mixed = self.found = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        uses = 0 if self.found else sum(a is self.value for a in args)
        around = not self.found and any(a is earlier for a in args for earlier in self.passed)
        if not uses and not around:
            return func(*args, **kwargs)
        name = (resolve_name(func) or str(func)).rpartition(".")[2].strip("_")
        if name not in _READS and (around or uses > 1):
            raise UnsupportedError(
                f"expected a single way from the pixels to the first ReLU, got a second one that goes into '{name}'"
            )
        if name in _RELUS:
            self.found = True
            if not self.mixed:
                raise UnsupportedError("expected an affine layer before the first ReLU, got none")
            return rectified_mean(self.value, self.variance)
        moved = self._carried(name, func, args, kwargs)
        out = func(*args, **kwargs)
        if moved is not None:
            if name in _SHIFTS | _SCALES and out.shape != self.value.shape:
                raise UnsupportedError(
                    f"expected one entry for each before the first ReLU, got copies of it by '{name}'"
                )
            if out is not self.value:
                self.passed.append(self.value)
            self.value, self.variance = out, moved
        return out

    def _carried(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor | None:
        """The variances after `func`; None where it only reads."""
        if name in _READS:
            return None
        if name in _RESHAPES:
            reshaped: Tensor = func(self.variance, *args[1:], **kwargs)
            return reshaped
        if name in _SHIFTS and args[0] is self.value:
            return self.variance
        if name in _SCALES and args[0] is self.value:
            scaled: Tensor = func(func(self.variance, args[1]), args[1])
            return scaled
        if func in (functional.linear, functional.conv2d) and not self.mixed:
            self.mixed = True
            return self._squared(func, args, kwargs)
        raise UnsupportedError(
            f"expected a network that begins with one linear or convolutional layer and a ReLU, got '{name}' before it"
        )

    def _squared(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        given |= {"input": self.variance, "weight": given["weight"].square(), "bias": None}
        return func(**given)
