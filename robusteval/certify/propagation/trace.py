"""A classifier -> its graph, read by torch.fx."""

from __future__ import annotations

import operator
from dataclasses import replace

import torch
from torch import fx, nn

from robusteval.certify.propagation.arithmetic import ARITHMETIC, arithmetic
from robusteval.certify.propagation.functions import functional_module
from robusteval.certify.propagation.gathering import Gather, keeps_order
from robusteval.certify.propagation.graph import Graph, Node
from robusteval.certify.propagation.guard import check_answers, odd_images
from robusteval.certify.propagation.layers import from_module, is_nothing, shape_of, unsupported
from robusteval.certify.propagation.moving import movements, moves
from robusteval.certify.propagation.ops import Concatenate, Max, Op, Reshape, Scale
from robusteval.certify.propagation.overwriting import VIEWS, Memory
from robusteval.certify.propagation.pieces import Pieces
from robusteval.certify.propagation.places import Shape
from robusteval.certify.propagation.program import READ_OFF, traced
from robusteval.certify.propagation.reductions import REDUCTIONS, reduction, side_by_side
from robusteval.models.classifier import Classifier

_OF = torch.ops.aten
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
        self.parts: dict[fx.Node, tuple[int, ...]] = {}
        """The values that a step gave together, as `chunk` does."""
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
        elif any(map(self._known, node.all_input_nodes)) and node.meta["kind"] not in READ_OFF:
            self._layer(node)
        if "tensor_meta" in node.meta and node.op != "output":
            self.memory.note(node, view=self._is_view(node))
            later = self.memory.overwritten(node)
            if node in self.where:
                self.where.update(dict.fromkeys(later, self.where[node]))

    def _layer(self, node: fx.Node) -> None:
        if moves(node, self.program):
            self._move(node)
        elif node.op == "call_module":
            self._module(node, self.program.get_submodule(str(node.target)))
        elif node.target in ARITHMETIC:
            shapes = {k: self.nodes[v].shape for k, v in self.where.items()}
            self._append(node, arithmetic(node, shapes, self.program), self._inputs(node))
        elif node.target in (torch.cat, torch.concat, torch.concatenate, _OF.cat.default):
            self._concatenation(node)
        elif node.target in REDUCTIONS:
            inputs = self._inputs(node)
            self._pieces(node, reduction(node, self.nodes[inputs[0]].shape, shape_of(node)), inputs)
        elif node.target in _RESHAPES:
            self._append(node, Reshape(self.nodes[self._inputs(node)[0]].shape, shape_of(node)), self._inputs(node))
        elif node.target in _NOTHING:
            self.where[node] = self._inputs(node)[0]
        else:
            self._module(node, functional_module(node))

    def _move(self, node: fx.Node) -> None:
        """A step that moves entries, of one value or of the values that a step gave together."""
        taken = [other for other in node.all_input_nodes if self._known(other)]
        if node.target is operator.getitem and taken[0] in self.parts and isinstance(node.args[1], int):
            self.where[node] = self.parts[taken[0]][node.args[1]]
            return
        if len(taken) != 1 or taken[0] in self.parts:
            raise unsupported(node, f"{node.target} of several values")
        shape_of(taken[0])
        ops = movements(node, self.program, taken[0])
        if ops is None:
            raise unsupported(node, f"{node.target} across images")
        together = node.meta["kind"] in (tuple, list)
        found = [self._add(node, op, (self.where[taken[0]],), op.after, f".{k}" * together) for k, op in enumerate(ops)]
        if together:
            self.parts[node] = tuple(found)
        else:
            shape_of(node)
            (self.where[node],) = found

    def _is_view(self, node: fx.Node) -> bool:
        """Whether it may give a tensor over the memory of its argument."""
        if node.op == "call_module":
            return isinstance(self.program.get_submodule(str(node.target)), nn.Flatten | nn.Unflatten)
        return node.target in (*_RESHAPES, *VIEWS) or moves(node, self.program)

    def _module(self, node: fx.Node, module: torch.nn.Module) -> None:
        inputs = self._inputs(node)
        if is_nothing(module):
            self.where[node] = inputs[0]
            return
        inner = self.nodes[inputs[0]]
        pieces = from_module(node, module, inner.shape, shape_of(node))
        op = pieces[0].op
        if isinstance(op, Max) and isinstance(inner.op, Max) and (op.single or inner.op.single) and len(pieces) == 1:
            # Maxima of maxima: max-pooling and ReLU are one, and its relaxation is tighter than theirs.
            view = inner.op.view if op.single else op.view
            self._append(node, Max(view, op.floor or inner.op.floor), inner.inputs)
            return
        self._pieces(node, pieces, inputs)

    def _pieces(self, node: fx.Node, pieces: Pieces, inputs: tuple[int, ...]) -> None:
        values = list(inputs)
        for k, piece in enumerate(pieces):
            taken = (values[-1],) if piece.takes is None else tuple(values[j] for j in piece.takes)
            values.append(self._add(node, piece.op, taken, piece.shape, "" if piece.shown else f".{k}"))
        self.where[node] = values[-1]

    def _concatenation(self, node: fx.Node) -> None:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if node.kwargs.keys() - {"dim", "tensors"}:
            raise unsupported(node, "a concatenation into another value")
        if not isinstance(parts, list | tuple) or not all(p in self.where for p in parts if isinstance(p, fx.Node)):
            raise unsupported(node, "a concatenation with constants")
        inputs = tuple(self.where[p] for p in parts if isinstance(p, fx.Node))
        if len(inputs) != len(parts):
            raise unsupported(node, "a concatenation with constants")
        rank = len(node.meta["tensor_meta"].shape)
        if dim in (1, 1 - rank):
            self._append(node, Concatenate(tuple(self.nodes[k].shape[0] for k in inputs)), inputs)
        else:
            self._pieces(node, side_by_side(node, [p.meta["tensor_meta"].shape[1:] for p in parts], dim), inputs)

    def used(self) -> tuple[Node, ...]:
        """The layers that the result depends on, and the image, counted anew."""
        needed = {self.result}
        for k in reversed(range(len(self.nodes))):
            if k in needed:
                needed.update(self.nodes[k].inputs)
        order = {k: i for i, k in enumerate(sorted(needed | {0}))}
        return tuple(replace(self.nodes[k], inputs=tuple(order[j] for j in self.nodes[k].inputs)) for k in order)

    def _known(self, argument: object) -> bool:
        return isinstance(argument, fx.Node) and (argument in self.where or argument in self.parts)

    def _inputs(self, node: fx.Node) -> tuple[int, ...]:
        """The values that a layer takes, in order and as often as it takes them."""
        taken = (*node.args, *node.kwargs.values())
        return tuple(self.where[a] for a in taken if isinstance(a, fx.Node) and a in self.where)

    def _append(self, node: fx.Node, op: Op, inputs: tuple[int, ...]) -> None:
        self.where[node] = self._add(node, op, inputs, shape_of(node), "")

    def _add(self, node: fx.Node, op: Op, inputs: tuple[int, ...], shape: Shape, suffix: str) -> int:
        """The number of a new value, or of the one that it is the same as."""
        if isinstance(op, Gather) and keeps_order(op):
            op = Reshape(op.before, op.after)
        same = (isinstance(op, Reshape) and op.before == op.after) or (isinstance(op, Scale) and op.roundings == 0)
        if inputs and same:
            return inputs[0]
        self.nodes.append(Node(op, inputs, shape, node.name + suffix))
        return len(self.nodes) - 1
