"""A network as what comes up to its first ReLU, which is affine in the pixels, and what comes after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from robusteval.certify.propagation.graph import Node
from robusteval.certify.propagation.ops import Affine, Max, Reshape, Scale
from robusteval.certify.propagation.program import traced
from robusteval.certify.propagation.trace import Reader
from robusteval.certify.propagation.weighted import Conv2d, Linear
from robusteval.core.errors import UnsupportedError
from robusteval.models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class FirstRelu:
    """f(x) = rest(ReLU(A x + c)): Omega(ReLU(Upsilon(x))) of Moments, section 3, with F values after the ReLU.

    both: images (M, C, H, W) -> logits and the values after the ReLU, side by side, (M, K + F).
    rest: values after the ReLU (M, *shape) -> logits (M, K). Evaluations of either are counted like the network's own.
    gain: the Euclidean norm of each row of A, (F,) float64.
    """

    both: Classifier
    rest: Classifier
    shape: tuple[int, ...]
    gain: Tensor
    layers: tuple[Affine, ...]

    def before(self, pixels: Tensor) -> Tensor:
        """A x + c for images (N, C, H, W), (N, F) float64."""
        x = pixels.double()
        for op in self.layers:
            x = op.output(x)
        return x.flatten(1)


def first_relu(classifier: Classifier) -> FirstRelu:
    """A classifier, split at its first ReLU (a module, a function or a method).

    Up to there it may normalise (arithmetic with constants), reshape, normalise batches in eval mode, drop out in eval
    mode, and has exactly one linear or convolutional layer: then the squares of A's entries are those of its layers,
    multiplied. All that comes after depends on the ReLU's values alone. Raises UnsupportedError that names what does
    not fit.
    """
    program, example = traced(classifier)
    reader = Reader(program)
    with example.device:
        relu = _read(reader, classifier)
    layers = _layers(reader.nodes, reader.where[relu], relu, classifier)
    _nothing_passes_by(reader, relu, classifier)
    square = torch.ones_like(example[:1], dtype=torch.float64)
    for op in layers:
        square = _squared(op).apply(square)
    split = FirstRelu(
        both=replace(classifier, module=_Both(_showing(program, relu))),
        rest=replace(classifier, module=_Rest(program, relu, classifier.input_shape)),
        shape=tuple(relu.meta["tensor_meta"].shape[1:]),
        gain=square.flatten().sqrt(),
        layers=layers,
    )
    _check(split, classifier, example)
    return split


class _Both(nn.Module):
    """Logits and the values after the first ReLU, side by side."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__()
        self.program = program

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([value.flatten(1) for value in self.program(pixels)], dim=1)


class _Rest(nn.Module):
    """The same program, from the values after its first ReLU on."""

    def __init__(self, program: fx.GraphModule, relu: fx.Node, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.program, self.relu, self.input_shape = program, relu, input_shape

    def forward(self, values: Tensor) -> Tensor:
        # Of the images nothing is left but how many there are; later layers may work in place.
        images = values.new_zeros(len(values), *self.input_shape)
        logits: Tensor = fx.Interpreter(self.program).run(images, initial_env={self.relu: values.clone()})[0]
        return logits


def _read(reader: Reader, classifier: Classifier) -> fx.Node:
    """The first ReLU; all before it is read."""
    node: fx.Node
    for node in reader.program.graph.nodes:
        try:
            reader.read(node)
        except UnsupportedError as error:
            raise _unfit(classifier, _named(reader.program, node)) from error
        op = reader.nodes[reader.where[node]].op if node in reader.where else None
        if isinstance(op, Max):
            if not (op.single and op.floor):
                raise _unfit(classifier, f"{_named(reader.program, node)} before any ReLU")
            return node
        if op is not None and reader.where[node] and not isinstance(op, Affine):
            raise _unfit(classifier, _named(reader.program, node))
    raise _unfit(classifier, "no ReLU")


def _layers(nodes: list[Node], k: int, relu: fx.Node, classifier: Classifier) -> tuple[Affine, ...]:
    """The layers from the image, value 0, to the ReLU, value k."""
    found: list[Affine] = []
    (k,) = nodes[k].inputs
    while k:
        op = nodes[k].op
        if not isinstance(op, Affine) or len(nodes[k].inputs) != 1:
            raise _unfit(classifier, f"a sum or concatenation of several values at '{nodes[k].name}'")
        found.append(op)
        (k,) = nodes[k].inputs
    mixing = [op for op in found if not isinstance(op, Scale | Reshape)]
    if len(mixing) != 1 or not isinstance(mixing[0], Linear | Conv2d):
        raise _unfit(classifier, f"{len(mixing)} linear or convolutional layers before the ReLU '{relu.name}'")
    return tuple(reversed(found))


def _nothing_passes_by(reader: Reader, relu: fx.Node, classifier: Classifier) -> None:
    nodes = list(reader.program.graph.nodes)
    for node in nodes[nodes.index(relu) + 1 :]:
        taken = [a for a in node.all_input_nodes if a in reader.where and a is not relu]
        # A shape that is read off a value is no value.
        if taken and (node.op == "output" or "tensor_meta" in node.meta):
            raise _unfit(classifier, f"a value that goes past the ReLU, into '{node.name}'")


def _squared(op: Affine) -> Affine:
    """The layer with the squares of its weights."""
    if isinstance(op, Linear | Conv2d):
        return replace(op, weight=op.weight.square())
    return replace(op, scale=op.scale.square()) if isinstance(op, Scale) else op


def _showing(program: fx.GraphModule, relu: fx.Node) -> fx.GraphModule:
    """The program, with the values after the ReLU as a second result: a copy, since later layers may work in place."""
    graph = program.graph
    with graph.inserting_after(relu):
        copy = graph.call_method("clone", (relu,))
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0], copy),)
    program.recompile()
    return program


def _check(split: FirstRelu, classifier: Classifier, like: Tensor) -> None:
    """What hooks do, no graph says: both halves have to do what the network does."""
    images = torch.rand(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        logits = classifier.module(images)
        seen, values = split.both.module(images).split([logits.shape[1], len(split.gain)], dim=1)
        again = split.rest.module(values.unflatten(1, split.shape))
    pairs = ((logits, seen), (logits, again), (split.before(images).clamp_min(0).to(values), values))
    if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max())) for a, b in pairs):
        raise UnsupportedError(
            f"expected a network that does what its layers say, got {classifier.name}, which answers otherwise (hooks?)"
        )


def _named(program: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{type(program.get_submodule(str(node.target))).__name__} at '{node.target}'"
    return f"'{node.name}'"


def _unfit(classifier: Classifier, what: str) -> UnsupportedError:
    return UnsupportedError(
        "expected a network that begins with one linear or convolutional layer and a ReLU (besides normalisation, "
        f"reshapes, batch norm and dropout in eval mode), got {what} in {classifier.name}"
    )
