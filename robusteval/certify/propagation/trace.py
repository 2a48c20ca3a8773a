"""A classifier -> its graph, read by torch.fx."""

from __future__ import annotations

import operator
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from robusteval.certify.propagation.functions import functional_module
from robusteval.certify.propagation.graph import Graph, Node
from robusteval.certify.propagation.guard import check_answers, odd_images
from robusteval.certify.propagation.layers import from_module, is_nothing, shape_of, unsupported
from robusteval.certify.propagation.ops import Add, Concatenate, Max, Op, Reshape, Scale
from robusteval.certify.propagation.overwriting import VIEWS, Memory
from robusteval.certify.propagation.places import Shape
from robusteval.certify.propagation.program import READ_OFF, traced
from robusteval.models.classifier import Classifier

_OF = torch.ops.aten


def _forms(name: str) -> tuple[object, ...]:
    """An operator of arithmetic in all its forms."""
    operators = [getattr(_OF, form) for form in (name, f"{name}_")]
    python = {"div": "truediv"}.get(name, name)
    own: tuple[object, ...] = (getattr(operator, python), getattr(operator, f"i{python}"), getattr(torch, name))
    return (*own, name, f"{name}_", *(getattr(op, kind) for op in operators for kind in ("Tensor", "Scalar")))


_SUMS = _forms("add")
_ARITHMETIC = {
    target: kind for name, kind in {"add": "+", "sub": "-", "mul": "*", "div": "/"}.items() for target in _forms(name)
}
_RESHAPES: tuple[object, ...] = (torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze)
_RESHAPES += ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
_RESHAPES += (_OF.flatten.using_ints, _OF.view.default, _OF.reshape.default, _OF._unsafe_view.default)
_RESHAPES += (_OF.squeeze.default, _OF.squeeze.dim, _OF.squeeze.dims, _OF.unsqueeze.default, _OF.unflatten.int)
_NOTHING = (*VIEWS, "clone", _OF.clone.default)


def trace(classifier: Classifier) -> Graph:
    """The graph of a classifier, its normalisation included.

    Raises UnsupportedError that names the layer where there is one that bounds cannot pass through.
    """
    program, example = traced(classifier)
    reader = Reader(program)
    with example.device:
        for node in program.graph.nodes:
            reader.read(node)
    # A backward pass in float32 is up to nine times as fast on a CPU; on a GPU it might take Winograd's algorithm.
    fast = classifier.dtype != torch.float64 and example.device.type == "cpu"
    graph = Graph(reader.used(), classifier.dtype, torch.float32 if fast else torch.float64)
    check_answers(graph, program, classifier, odd_images(example))
    return graph


class Reader:
    """Turns the nodes of a traced program into layers, one after the other."""

    def __init__(self, program: fx.GraphModule) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.where: dict[fx.Node, int] = {}
        self.memory = Memory()
        self.result = 0

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._append(node, Reshape(shape_of(node), shape_of(node)), ())
        elif node.op == "output":
            inputs = self._inputs(node)
            if len(inputs) != 1:
                raise unsupported(node, "an output that is not one value")
            (self.result,) = inputs
        elif any(a in self.where for a in node.all_input_nodes) and node.meta["kind"] not in READ_OFF:
            self._layer(node)
        if "tensor_meta" in node.meta and node.op != "output":
            self.memory.note(node, view=self._is_view(node))
            later = self.memory.overwritten(node)
            if node in self.where:
                self.where.update(dict.fromkeys(later, self.where[node]))

    def _layer(self, node: fx.Node) -> None:
        if node.op == "call_module":
            self._module(node, self.program.get_submodule(str(node.target)))
        elif node.target in _SUMS and len(self._inputs(node)) == len(node.args) == 2 and not node.kwargs:
            self._sum(node)
        elif node.target in _ARITHMETIC:
            self._append(node, self._arithmetic(node), self._inputs(node))
        elif node.target in (torch.cat, torch.concat, _OF.cat.default):
            self._concatenation(node)
        elif node.target in _RESHAPES:
            self._append(node, Reshape(self.nodes[self._inputs(node)[0]].shape, shape_of(node)), self._inputs(node))
        elif node.target in _NOTHING:
            self.where[node] = self._inputs(node)[0]
        else:
            self._module(node, functional_module(node))

    def _is_view(self, node: fx.Node) -> bool:
        """Whether it may give a tensor over the memory of its argument."""
        if node.op == "call_module":
            return isinstance(self.program.get_submodule(str(node.target)), nn.Flatten | nn.Unflatten)
        return node.target in (*_RESHAPES, *VIEWS)

    def _module(self, node: fx.Node, module: torch.nn.Module) -> None:
        inputs = self._inputs(node)
        if is_nothing(module):
            self.where[node] = inputs[0]
            return
        op = from_module(node, module, self.nodes[inputs[0]].shape, shape_of(node))
        inner = self.nodes[inputs[0]]
        if isinstance(op, Max) and isinstance(inner.op, Max) and (op.single or inner.op.single):
            # Maxima of maxima: max-pooling and ReLU are one, and its relaxation is tighter than theirs.
            view = inner.op.view if op.single else op.view
            op, inputs = Max(view, op.floor or inner.op.floor), inner.inputs
        self._append(node, op, inputs)

    def _sum(self, node: fx.Node) -> None:
        inputs = self._inputs(node)
        if len({self.nodes[k].shape for k in inputs}) > 1:
            raise unsupported(node, "a sum of values of unequal shapes")
        self._append(node, Add(), inputs)

    def _arithmetic(self, node: fx.Node) -> Scale:
        """x + c, c + x, x - c, c - x, x * c, c * x and x / c for a constant c that broadcasts to x."""
        kind, (left, right) = _ARITHMETIC[node.target], node.args[:2]
        swapped = not self._known(left)
        if swapped and kind == "/":
            raise unsupported(node, "a constant divided by a value")
        if len(node.args) != 2 or node.kwargs or (swapped and node.target in (operator.isub, "sub_", _OF.sub_.Tensor)):
            raise unsupported(node, "this arithmetic")
        shape = shape_of(node)
        constant = self._constant(node, left if swapped else right, shape)
        if self.nodes[self._inputs(node)[0]].shape != shape:
            raise unsupported(node, "a constant larger than the value")
        one, zero = torch.ones_like(constant), torch.zeros_like(constant)
        if swapped and kind == "-":
            return Scale(-one, constant, constant.abs(), 2)
        if kind in "+-":
            shift = constant if kind == "+" else -constant
            return Scale(one, shift, shift.abs(), 0 if bool((shift == 0).all()) else 2)
        scale = constant if kind == "*" else 1 / constant
        return Scale(scale, zero, zero, 0 if bool((scale == 1).all()) else 3)

    def _constant(self, node: fx.Node, value: object, shape: Shape) -> Tensor:
        if isinstance(value, int | float):
            return torch.full(shape, float(value), dtype=torch.float64)
        if isinstance(value, fx.Node) and value.op == "get_attr":
            holder: object = self.program
            for part in str(value.target).split("."):
                holder = getattr(holder, part)
            if isinstance(holder, Tensor):
                rank = len(node.meta["tensor_meta"].shape)
                laid = holder.detach().double()
                laid = laid.reshape(*(1,) * (rank - laid.dim()), *laid.shape)
                if laid.shape[0] == 1:
                    laid = laid[0].reshape(*laid.shape[1:], *(1,) * (4 - rank))
                    return laid.expand(shape)
        raise unsupported(node, "arithmetic with something that is not a constant")

    def _concatenation(self, node: fx.Node) -> None:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        rank = len(node.meta["tensor_meta"].shape)
        if dim not in (1, 1 - rank):
            raise unsupported(node, f"a concatenation along dimension {dim}")
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        if node.kwargs.keys() - {"dim", "tensors"}:
            raise unsupported(node, "a concatenation into another value")
        if not isinstance(parts, list | tuple) or not all(self._known(p) for p in parts):
            raise unsupported(node, "a concatenation with constants")
        inputs = tuple(self.where[p] for p in parts if isinstance(p, fx.Node))
        self._append(node, Concatenate(tuple(self.nodes[k].shape[0] for k in inputs)), inputs)

    def used(self) -> tuple[Node, ...]:
        """The layers that the result depends on, and the image, counted anew."""
        needed = {self.result}
        for k in reversed(range(len(self.nodes))):
            if k in needed:
                needed.update(self.nodes[k].inputs)
        order = {k: i for i, k in enumerate(sorted(needed | {0}))}
        return tuple(replace(self.nodes[k], inputs=tuple(order[j] for j in self.nodes[k].inputs)) for k in order)

    def _known(self, argument: object) -> bool:
        return isinstance(argument, fx.Node) and argument in self.where

    def _inputs(self, node: fx.Node) -> tuple[int, ...]:
        """The values that a layer takes, in order and as often as it takes them."""
        taken = (*node.args, *node.kwargs.values())
        return tuple(self.where[a] for a in taken if isinstance(a, fx.Node) and a in self.where)

    def _append(self, node: fx.Node, op: Op, inputs: tuple[int, ...]) -> None:
        same = (isinstance(op, Reshape) and op.before == op.after) or (isinstance(op, Scale) and op.roundings == 0)
        if inputs and same:
            self.where[node] = inputs[0]
        else:
            self.nodes.append(Node(op, inputs, shape_of(node), node.name))
            self.where[node] = len(self.nodes) - 1
