"""A classifier as a program of torch.fx, run once on two images: what each step gives, and what it writes into."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate
from torch.fx.passes.shape_prop import _extract_tensor_metadata

from robusteval.certify.propagation.scripted import without_scripts
from robusteval.certify.propagation.unseen import refuse_unseen
from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier

aten = torch.ops.aten
READ_OFF = (int, float, bool, torch.Size, torch.device, torch.dtype)
"""Types of what is read off a value without being one, such as its shape."""


def traced(classifier: Classifier) -> tuple[fx.GraphModule, Tensor]:
    """The program of a classifier, run on images (2, C, H, W), which are given beside it. Each node knows of its value

    - `tensor_meta`: shape and type, for tensors and collections of them;
    - `kind`: the type of what it is in Python;
    - `written`: the earlier nodes whose values it changed, views of them included, whatever way it took: torch counts
      the changes of every tensor;
    - `again`: the earlier nodes whose values are the very same tensor;
    - `constant`: the value itself, where it does not depend on the images;
    - `size`: what it is, where it is read off the shapes of values alone.

    Raises UnsupportedError where torch.fx cannot trace it, where a module does more than its class says, or where the
    network changes its own weights.
    """
    refuse_unseen(classifier.module, classifier.name)
    try:
        module = without_scripts(classifier.module)
        like = next((b for b in classifier.module.buffers()), torch.zeros(()))
        example = torch.full((2, *classifier.input_shape), 0.5, dtype=classifier.dtype, device=like.device)
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        before = {name: tensor._version for name, tensor in own.items()}
        tracer = _Tracer()
        graph = tracer.trace(module)
        program = fx.GraphModule(tracer.root, graph)
        with torch.inference_mode(False), torch.no_grad():
            _Noted(program).run(example.clone())
    except UnsupportedError:
        raise
    except (Exception, SystemExit) as error:
        raise UnsupportedError(
            f"expected a network that torch.fx can trace, got {classifier.name}: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    changed = [name for name, tensor in own.items() if tensor._version != before[name]]
    if changed:
        raise UnsupportedError(
            f"expected a network that leaves its weights as they are, got {classifier.name}, which changes {changed[0]}"
        )
    return program, example


def _of_constants(node: fx.Node) -> bool:
    return bool(node.all_input_nodes) and all("constant" in before.meta for before in node.all_input_nodes)


def _of_shapes(node: fx.Node) -> bool:
    """Whether what it gives is read off the shapes of values, whatever their entries are."""
    if node.target in ("size", "dim", "ndimension", aten.sym_size.int, aten.size.int, aten.size.default):
        return True
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return bool(node.all_input_nodes) and all("size" in before.meta for before in node.all_input_nodes)


def _in_place(name: str) -> Callable[..., fx.Proxy]:
    function = getattr(operator, name)

    def traced_in_place(self: fx.Proxy, *others: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, *others), {})

    return traced_in_place


class _Value(fx.Proxy):
    """A value while a program is traced. Without methods for += and its like Python takes x + y for x += y, and the
    program would not show that x was overwritten."""


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(_Value, f"__i{_name}__", _in_place(f"i{_name}"))
setattr(_Value, "__setitem__", _in_place("setitem"))  # noqa: B010


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)


class _Noted(fx.Interpreter):
    """Runs a program and writes beside each node what came of it."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        self.values: dict[fx.Node, Tensor] = {}
        """Held to the end, so that no two have lain in the same memory but by purpose."""

    def run_node(self, n: fx.Node) -> Any:
        before = {node: value._version for node, value in self.values.items()}
        result = super().run_node(n)
        n.meta["kind"] = type(result)
        if n.op == "get_attr" or (n.op == "call_function" and _of_constants(n)):
            n.meta["constant"] = result
        if isinstance(result, int | float | tuple | list) and _of_shapes(n):
            n.meta["size"] = result
        n.meta["written"] = [node for node, value in self.values.items() if value._version != before[node]]
        n.meta["again"] = [node for node, value in self.values.items() if value is result]
        found: list[Tensor] = []

        def described(part: Any) -> Any:
            if not isinstance(part, Tensor):
                return part
            found.append(part)
            return _extract_tensor_metadata(part)

        described_result = map_aggregate(result, described)
        if found:
            n.meta["tensor_meta"] = described_result
        if isinstance(result, Tensor):
            self.values[n] = result
        return result
