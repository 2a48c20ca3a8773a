"""TorchScript programs as programs of torch.fx: their operators in order, where no branch depends on the images."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import fx, nn

from robusteval.core.errors import UnsupportedError

_SAME = ("prim::NumToTensor", "aten::Int", "aten::ScalarImplicit")
"""What turns a number into a tensor of it and back, when a shape is traced."""
_LISTS = ("prim::ListConstruct", "prim::TupleConstruct")
_UNPACKED = ("prim::ListUnpack", "prim::TupleUnpack")


def without_scripts(module: nn.Module) -> nn.Module:
    """The same network with every TorchScript program in it as a program of torch.fx; itself where there is none.

    Raises UnsupportedError for programs with branches, loops or calls that freezing does not remove.
    """
    scripts = [part for part in module.modules() if isinstance(part, torch.jit.ScriptModule)]
    inner = {id(part) for script in scripts for part in script.modules() if part is not script}
    outer = [script for script in scripts if id(script) not in inner]
    return copy.deepcopy(module, {id(s): _as_program(s) for s in outer}) if outer else module


def _as_program(script: torch.jit.ScriptModule) -> fx.GraphModule:
    frozen: Any = torch.jit.freeze(script.eval(), optimize_numerics=False)
    root, graph = nn.Module(), fx.Graph()
    values: dict[str, Any] = {}
    inputs = list(frozen.graph.inputs())[1:]
    if len(inputs) != 1:
        raise UnsupportedError(f"expected a TorchScript program of one argument, got {len(inputs)}")
    values[inputs[0].debugName()] = graph.placeholder("pixels")
    for node in frozen.graph.nodes():
        if node.kind() in _UNPACKED:
            (whole,) = (values[v.debugName()] for v in node.inputs())
            for k, part in enumerate(node.outputs()):
                known = isinstance(whole, list)
                values[part.debugName()] = whole[k] if known else graph.call_function(operator.getitem, (whole, k))
            continue
        values[node.output().debugName() if node.outputsSize() == 1 else ""] = _step(root, graph, node, values)
    outputs = list(frozen.graph.outputs())
    graph.output(values[outputs[0].debugName()] if len(outputs) == 1 else None)
    return fx.GraphModule(root, graph)


def _step(root: nn.Module, graph: fx.Graph, node: Any, values: dict[str, Any]) -> Any:
    """What comes of a node: a value of the new program, a list of such, or something that is known."""
    kind = node.kind()
    if kind == "prim::Constant":
        constant = node.output().toIValue()
        if not isinstance(constant, torch.Tensor):
            return constant
        name = f"constant{len(graph.nodes)}"
        root.register_buffer(name, constant.detach())
        return graph.get_attr(name)
    if node.outputsSize() != 1 or list(node.blocks()):
        raise UnsupportedError(f"expected a TorchScript program without branches and calls, got {kind}")
    inputs = [values[v.debugName()] for v in node.inputs()]
    if kind in _LISTS:
        return inputs
    if kind in _SAME:
        return inputs[0]
    if not kind.startswith("aten::") or node.schema() == "(no schema)":
        raise UnsupportedError(f"expected operators of torch in a TorchScript program, got {kind}")
    schema = torch._C.parse_schema(node.schema())
    operators = getattr(torch.ops.aten, kind.removeprefix("aten::"))
    while inputs and (last := schema.arguments[len(inputs) - 1]).has_default_value() and _is(last, inputs[-1]):
        inputs.pop()
    # A program gives every argument by its place, a call some by their names.
    named = {a.name: v for a, v in zip(schema.arguments, inputs, strict=False) if a.kwarg_only}
    placed = tuple(v for a, v in zip(schema.arguments, inputs, strict=False) if not a.kwarg_only)
    return graph.call_function(getattr(operators, schema.overload_name or "default"), placed, named)


def _is(argument: Any, given: Any) -> bool:
    """Whether what is given is the default."""
    default = argument.default_value
    return type(given) is type(default) and not isinstance(given, fx.Node) and bool(given == default)
