"""A network of torch in the making: a torch.fx graph of layers and functions, built one step after the other.

A step on constants alone is computed at once, so that shapes that a graph computes for itself are known when they are
needed. Of all else only shape and type are computed, on tensors without memory: a shape that is too large is refused
before anything has it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from robusteval.core.errors import UserError
from robusteval.core.limits import check_limit_of

VALUE_NUMBERS = 2**28
"""Of one value of a network for a few images, and of all constants that are computed from others."""
ALL_NUMBERS = 2**32
"""Of all values of a network together, for a few images."""
OPERATIONS, OF_CONSTANTS = 2**42, 2**36
"""Multiplications and additions in matrix products and convolutions: of the network for a few images, and of constants
that are computed from others."""
_COUNTED = 2**14
"""Numbers into and out of a step from which on its operations are counted, which takes a millisecond."""


@dataclass(frozen=True, eq=False)
class Value:
    """What the network computes of its images: a node of the graph, and a tensor without memory like it."""

    node: fx.Node
    like: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.like.shape)


Operand = Tensor | Value


class Builder:
    """The graph of a network that takes `shape`, the images of a batch first; `version` is the set of operators."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, version: int) -> None:
        self.root, self.graph, self.mode = nn.Module(), fx.Graph(), FakeTensorMode(allow_non_fake_inputs=True)
        self.dtype, self.version, self.folded, self.numbers = dtype, version, 0, 0
        self.operations = {False: 0, True: 0}  # of constants: True
        with self.mode:
            self.image = Value(self.graph.placeholder("pixels"), torch.empty(shape, dtype=dtype))

    @property
    def batch(self) -> int:
        """How many images there are while the graph is built."""
        return self.image.shape[0]

    def layer(self, module: nn.Module, value: Operand) -> Operand:
        """What a module says of a value."""
        module.eval().requires_grad_(False)
        like = self._like(module, (value,), {})
        if isinstance(value, Tensor):
            return self._folded(like, module, (value,), {})
        name = f"layer{len(self.graph.nodes)}"
        self.root.add_module(name, module)
        return Value(self.graph.call_module(name, (value.node,)), like)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Operand:
        """What a function says of values, constants and settings; sequences of values are allowed among `args`."""
        like = self._like(function, args, kwargs)
        if not _of_images(args):
            return self._folded(like, function, args, kwargs)
        nodes = tuple([self._node(v) for v in a] if isinstance(a, list) else self._node(a) for a in args)
        return Value(self.graph.call_function(function, nodes, kwargs), like)

    def network(self, result: Operand) -> fx.GraphModule:
        if not isinstance(result, Value):
            raise UserError("expected an output that follows from the input, got a constant")
        self.graph.output(result.node)
        program = fx.GraphModule(self.root, self.graph, "Onnx")
        program.graph.eliminate_dead_code()
        program.recompile()
        return program

    def _node(self, argument: Any) -> Any:
        if isinstance(argument, Value):
            return argument.node
        if not isinstance(argument, Tensor):
            return argument
        name = f"constant{len(self.graph.nodes)}"
        self.root.register_buffer(name, argument)
        return self.graph.get_attr(name)

    def _like(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A tensor without memory like what comes of it."""

        def shown(a: Any) -> Any:
            if isinstance(a, list):
                return [shown(v) for v in a]
            if isinstance(a, Value):
                return a.like
            return self.mode.from_tensor(a) if isinstance(a, Tensor) else a

        given = [shown(a) for a in args]
        with self.mode, torch.no_grad(), _quiet():
            found = function(*given, **kwargs)
        if not isinstance(found, Tensor):
            raise UserError(f"expected a tensor, got {type(found).__name__}")
        numbers = math.prod(found.shape)
        self.numbers += numbers
        check_limit_of("a value of the graph", numbers, VALUE_NUMBERS, "numbers")
        check_limit_of("all values of the graph", self.numbers, ALL_NUMBERS, "numbers")
        if numbers + sum(math.prod(a.shape) for a in given if isinstance(a, Tensor)) >= _COUNTED:
            with self.mode, torch.no_grad(), FlopCounterMode(display=False) as counted:
                function(*given, **kwargs)
            constant = not _of_images(args)
            self.operations[constant] += counted.get_total_flops()
            most, what = (OF_CONSTANTS, "constants of the graph") if constant else (OPERATIONS, "the graph")
            check_limit_of(what, self.operations[constant], most, "operations in products and convolutions")
        return found

    def _folded(
        self, like: Tensor, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        self.folded += like.numel()
        check_limit_of("the constants that the graph computes", self.folded, VALUE_NUMBERS, "numbers")
        with torch.no_grad():
            found: Tensor = function(*args, **kwargs)
        return found.contiguous()


def _of_images(args: Sequence[Any]) -> bool:
    """Whether what comes of these arguments depends on the images."""
    return any(isinstance(v, Value) for a in args for v in (a if isinstance(a, list) else [a]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own lines on what it cannot compute, which the error says."""
    told = logging.getLogger("torch._subclasses.fake_tensor")
    before, told.disabled = told.disabled, True
    try:
        yield
    finally:
        told.disabled = before
