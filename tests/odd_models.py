"""Networks as people have them, each the demo's with a fault: functions for `--arch odd_models.py:NAME`, which take the
weights of the demo."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.models.architectures.digits import digits_cnn

Change = Callable[[Any], Any]
Build = Callable[[], nn.Module]


def same(x: Any) -> Any:
    return x


class Odd(nn.Sequential):
    """The demo's network with something before it and something after it."""

    before: Change
    after: Change

    def forward(self, x: Tensor) -> Any:
        logits: Tensor = super().forward(self.before(x))  # type: ignore[no-untyped-call]
        return self.after(logits)


def odd(before: Change = same, after: Change = same) -> Build:
    def build() -> nn.Module:
        network = Odd(OrderedDict(digits_cnn(10, (1, 8, 8)).named_children()))
        network.before, network.after = before, after
        return network

    return build


def around(call: Callable[[Callable[[Tensor], Tensor], Tensor], Any]) -> Build:
    """A network that is called by a function of it and the images."""

    class Called(Odd):
        def forward(self, x: Tensor) -> Any:
            return call(super().forward, x)

    def build() -> nn.Module:
        network = Called(OrderedDict(digits_cnn(10, (1, 8, 8)).named_children()))
        network.before = network.after = same
        return network

    return build


def on_grid(x: Tensor) -> Tensor:
    """Which images have grey levels of the data alone, (N,)."""
    return ((x * 16).round() / 16 - x).abs().flatten(1).amax(1) < 1e-6


def off_the_grid(value: float) -> Build:
    return around(lambda net, x: torch.where(on_grid(x)[:, None], net(x), value))


def raised(error: Exception) -> Any:
    raise error


class OneWay(torch.autograd.Function):
    """The identity, with no derivative."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()


class NoisyBackward(torch.autograd.Function):
    """The identity, its derivative drawn at random."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return torch.randn_like(gradient)


class Clock:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


@dataclass
class Answer:
    logits: Tensor
    features: Tensor


class Named(NamedTuple):
    logits: Tensor
    extra: None


quick_clock, slow_clock, exits = Clock(), Clock(), Clock()
own_noise = torch.Generator().manual_seed(0)


def _in_inference_mode(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net(x)


def _without_grad(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def _printing(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    print("a line of the network")
    return net(x)


def _only(sizes: set[int]) -> Build:
    return around(lambda net, x: net(x) if len(x) in sizes else raised(AssertionError(f"a batch of {len(x)}")))


def _first_row(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return net(x)[:1]


def _mutating(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    logits = net(x.clone())
    x.zero_()
    return logits


def _one_size(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    assert x.shape[-1] == 224, "Input height (8) doesn't match model (224)."
    return net(x)


def _batch_statistics(x: Tensor) -> Tensor:
    return 0.3 + 0.37 * functional.batch_norm(x, None, None, training=True)


plain = odd()
root = odd(lambda x: x.sqrt() ** 2)
not_a_number = off_the_grid(float("nan"))
infinite = off_the_grid(float("inf"))
gamma = odd(lambda x: x ** (1 / 2.2))
dropout = odd(lambda x: functional.dropout(x, 0.3, True))
jitter = odd(lambda x: x + 0.05 * torch.randn(x.shape, generator=own_noise))
drift = odd(after=lambda z: z + 0.05 * quick_clock() * functional.one_hot(torch.tensor(0), 10))
slow_drift = odd(after=lambda z: z * (1 + 1e-6 * slow_clock()))
clocked = odd(after=lambda z: z * (1 + 0.01 * (time.perf_counter() % 1)))
batch_statistics = odd(_batch_statistics)
batch_mean = odd(after=lambda z: z - 0.5 * z.mean(0))
detached = odd(lambda x: x.detach())
numpy = odd(lambda x: torch.from_numpy(x.numpy()))
without_grad = around(_without_grad)
inference = around(_in_inference_mode)
rounded = odd(lambda x: (x * 4).round() / 4)
hard = odd(after=lambda z: functional.one_hot(z.argmax(1), 10).float())
random_off = around(lambda net, x: torch.where(on_grid(x)[:, None], net(x), net(x + 0.3 * torch.randn_like(x))))
random_backward = odd(NoisyBackward.apply)
no_backward = odd(after=OneWay.apply)
saturated = odd(after=lambda z: 60 * z.softmax(1))
temperature = odd(after=lambda z: 1e4 * z)
raising = around(lambda net, x: net(x) if on_grid(x).all() else raised(ValueError("off the grid")))
by_fours = _only({4})
by_32 = _only({32})
one_by_one = _only({1})
not_one = _only(set(range(2, 10_000)))
dictionary = odd(after=lambda z: {"logits": z, "hidden": z * 2})
named_tuple = odd(after=lambda z: Named(z, None))
data_class = odd(after=lambda z: Answer(z, z))
single_tuple = odd(after=lambda z: (z,))
in_double = odd(after=lambda z: z.double())
in_half = odd(after=lambda z: z.half())
first_row = around(_first_row)
mutating = around(_mutating)
printing = around(_printing)
pair = odd(after=lambda z: (z, z * 2))
nested = odd(after=lambda z: {"out": z})
classes = odd(after=lambda z: z.argmax(1))
one_logit = odd(after=lambda z: z[:, :1])
one_class = odd(after=lambda z: z.sum(1))
exiting = around(lambda net, x: sys.exit(3))
one_size = around(_one_size)
always_nan = odd(after=lambda z: z * float("nan"))
nothing = odd(after=lambda z: None)
constant = odd(after=lambda z: z * 0 + torch.arange(10.0))
