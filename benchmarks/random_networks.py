"""Random small networks as people write them: in place, through views, with shared layers, hooks and branches, of every
layer that bounds pass through.

A network is a list of steps over planes (3, 4, 4). Each takes one or two values that earlier steps gave and appends its
own; a step in place appends the value that it overwrote. What it answers is linear in its last value and another one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

import random_steps

SHAPE = (1, 4, 4)
PLANE = (3, 4, 4)
Unary = Callable[["RandomNetwork", Tensor], Tensor]


def _set_item(net: RandomNetwork, h: Tensor) -> Tensor:
    h[:, 0] = 0.1
    return h


def _dropped(net: RandomNetwork, h: Tensor) -> Tensor:
    net.relu_in_place(h)
    return h


def _through_view(net: RandomNetwork, h: Tensor) -> Tensor:
    h.view(-1, 48).mul_(0.5)
    return h


def _alone(step: random_steps.Step) -> Unary:
    return lambda net, h: step(h)


def _layer(name: str) -> Unary:
    return lambda net, h: net.layers[name](h)


def _pair(step: Callable[[Tensor, Tensor], Tensor]) -> Callable[[RandomNetwork, Tensor, Tensor], Tensor]:
    return lambda net, a, b: step(a, b)


COMMON: dict[str, Unary] = {
    "conv 0": lambda net, h: net.convs[0](h),
    "conv 1": lambda net, h: net.convs[1](h),
    "point": lambda net, h: net.point(h),
    "norm": lambda net, h: net.norm(h),
    "relu": lambda net, h: functional.relu(h),
    "relu module": lambda net, h: net.relu(h),
    "relu module in place": lambda net, h: net.relu_in_place(h),
    "relu in place": lambda net, h: functional.relu(h, inplace=True),
    "relu_": lambda net, h: h.relu_(),
    "relu dropped": _dropped,
    "block": lambda net, h: net.block(h),
    "scaled": lambda net, h: h * -0.75,
    "clone": lambda net, h: h.clone(),
    "identity": lambda net, h: net.identity(h),
    "dropout": lambda net, h: net.dropout(h),
    "max": lambda net, h: functional.max_pool2d(h, 3, 1, 1),
    "average": lambda net, h: net.average(h),
    "add_": lambda net, h: h.add_(0.2),
    "mul_": lambda net, h: h.mul_(-0.8),
    "sub_": lambda net, h: h.sub_(0.1),
}
VIEWS: dict[str, Unary] = {
    "there and back": lambda net, h: h.flatten(1).view(-1, *PLANE),
    "reshape": lambda net, h: h.reshape(-1, *PLANE),
    "contiguous": lambda net, h: h.contiguous(),
    "detach": lambda net, h: h.detach(),
    "view written": _through_view,
}
ODD: dict[str, Unary] = {
    "item": _set_item,
    "slice": lambda net, h: h[:, :1].relu_() + h,
    **{name: _alone(step) for name, step in random_steps.REFUSED.items()},
}
MORE: dict[str, Unary] = {
    **{name: _layer(name) for name in random_steps.layers()},
    **{name: _alone(step) for name, step in random_steps.FUNCTIONS.items()},
}


def _added_in_place(net: RandomNetwork, a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


BINARY: dict[str, Callable[[RandomNetwork, Tensor, Tensor], Tensor]] = {
    "add": lambda net, a, b: a + b,
    "+=": _added_in_place,
    "add_": lambda net, a, b: a.add_(b),
    "cat": lambda net, a, b: net.joined(torch.cat([a, b], 1)),
    **{name: _pair(step) for name, step in random_steps.TWO.items()},
}


def _flipped(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return torch.where(output > 0.7, -output, output)


def _darkened(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].clamp_min(-0.2),)


class _Negative(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return -weight


class _Own(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        answer: Tensor = super().forward(input).relu()
        return answer


class _Called(nn.Sequential):
    def __call__(self, *args: Tensor) -> Tensor:
        answer: Tensor = super().__call__(*args)
        return answer.abs()


class Block(nn.Module):
    """A residual branch, in place as in the usual residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.relu(self.norm(self.first(x))))
        out += x
        answer: Tensor = self.relu(out)
        return answer


class RandomNetwork(nn.Module):
    """The network of a seed."""

    convs: nn.ModuleList
    point: nn.Module
    norm: nn.Module
    block: nn.Module
    relu: nn.Module
    relu_in_place: nn.Module
    identity: nn.Module
    dropout: nn.Module
    average: nn.Module
    joined: nn.Module

    def __init__(self, seed: int) -> None:
        super().__init__()
        chance = random.Random(seed)
        torch.manual_seed(seed)
        self.into = nn.Conv2d(1, 3, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.point, self.norm, self.block = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Block()
        self.relu, self.relu_in_place = nn.ReLU(), nn.ReLU(inplace=True)
        self.identity, self.dropout = nn.Identity(), nn.Dropout(0.3, inplace=chance.random() < 0.5)
        self.average, self.joined = nn.AvgPool2d(3, 1, 1), nn.Conv2d(6, 3, 1)
        self.layers = nn.ModuleDict(random_steps.layers())
        self.last, self.other = nn.Linear(48, 3), nn.Linear(48, 3)
        self.steps = self._drawn(chance)
        if chance.random() < 0.15:
            # Whichever layer is made odd, it is used.
            for name in ("conv 0", "conv 1", "point", "block", "relu module", "identity"):
                self.steps.append((name, len(self.steps), 0))
            self._make_odd(chance)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(chance.choice([1.0, 1.5, 2.5]))

    def _drawn(self, chance: random.Random) -> list[tuple[str, int, int]]:
        unary, steps = list(COMMON) + list(VIEWS) * (chance.random() < 0.5), []
        unary += list(ODD) * (chance.random() < 0.1) + list(MORE) * (chance.random() < 0.7)
        for k in range(chance.randint(3, 9)):
            first = max(0, k - (chance.random() < 0.4) * chance.randint(0, 3))
            name = chance.choice(list(BINARY)) if chance.random() < 0.3 else chance.choice(unary)
            steps.append((name, first, chance.randint(0, k)))
        self.beside = chance.randint(0, len(steps))
        return steps

    def _make_odd(self, chance: random.Random) -> None:
        """Something that no program shows."""
        layer = chance.choice([self.convs[0], self.point, self.relu, self.block, self.last, self.identity])
        match chance.randint(0, 5):
            case 0:
                layer.register_forward_hook(_flipped)
            case 1:
                layer.register_forward_pre_hook(_darkened)
            case 2:
                parametrize.register_parametrization(self.convs[1], "weight", _Negative())
            case 3:
                forward = type(layer).forward
                layer.forward = MethodType(lambda own, x: -forward(own, x), layer)
            case 4:
                self.convs[0] = _Own(3, 3, 3, padding=1)
            case _:
                self.point = _Called(nn.Conv2d(3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        values = [self.into(x)]
        known = COMMON | VIEWS | ODD | MORE
        for name, first, second in self.steps:
            if name in BINARY and (name not in known or second != first):
                values.append(BINARY[name](self, values[first], values[second]))
            else:
                values.append(known.get(name, known["relu"])(self, values[first]))
        logits: Tensor = self.last(values[-1].flatten(1)) + self.other(values[self.beside].flatten(1))
        return logits
