"""An ONNX graph -> a network of torch that computes the same, so that gradients, Jacobians and proofs pass through it.

Each operator becomes the layer or function of torch that does what the standard says. A graph for a fixed number of
images becomes one for any number, where it answers several images as it answers each by itself, to the tolerance below;
otherwise it is asked for as many as it was made for. A softmax at the end is left out: the class stays the same, and
logits are what attacks, margins and proofs speak of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from robusteval.core.errors import UserError, first_line
from robusteval.models.onnx.arithmetic import ARITHMETIC
from robusteval.models.onnx.building import Builder, Operand
from robusteval.models.onnx.file import OnnxGraph, Operation, read_onnx
from robusteval.models.onnx.layers import LAYERS
from robusteval.models.onnx.operands import Make, reshaped
from robusteval.models.onnx.resizing import RESIZING
from robusteval.models.onnx.shapes import MOVING
from robusteval.models.serving import FixedBatch

OPERATORS: Mapping[str, Make] = {**MOVING, **LAYERS, **ARITHMETIC, **RESIZING}
TOLERANCE = 1e-4
"""Relative to the largest logit, how far answers to several images may be from those to each alone."""
_ANY = 2
"""Images in a batch while a graph for any number is read: a size of its own, told from axes of size 1."""
_ENDS = ("Softmax", "LogSoftmax")


@dataclass(frozen=True)
class Onnx:
    """A network, and what a user should know of how it was read."""

    network: nn.Module
    notes: tuple[str, ...]


def open_onnx(path: Path, input_shape: tuple[int, int, int]) -> Onnx:
    """The network of an ONNX file for images (C, H, W) of `input_shape`.

    Raises UserError in one line for what cannot be read: operators outside of the standard or of `OPERATORS`, graphs
    within graphs, images of another size.
    """
    return onnx_network(read_onnx(path), input_shape)


def onnx_network(graph: OnnxGraph, input_shape: tuple[int, int, int]) -> Onnx:
    """The same of a graph that was read."""
    graph, note = without_softmax(graph)
    size = (graph.shape[0] if graph.shape else None) or _ANY
    network: nn.Module = _built(graph, input_shape, size)
    if not _alike(network, input_shape):
        size = size if graph.shape and graph.shape[0] else 1
        network = FixedBatch(_built(graph, input_shape, size), size)
    return Onnx(network, (note,) if note else ())


def without_softmax(graph: OnnxGraph) -> tuple[OnnxGraph, str]:
    """The graph up to the softmax that it ends in, and a note that says so."""
    last = next((op for op in graph.operations if graph.output in op.outputs), None)
    if last is None or last.kind not in _ENDS:
        return graph, ""
    kept = tuple(op for op in graph.operations if op is not last)
    short = OnnxGraph(graph.path, graph.version, kept, graph.constants, graph.input, graph.shape, last.inputs[0])
    return short, f"the logits of {graph.path.name} are what its last {last.kind} takes"


def image_shape(graph: OnnxGraph) -> tuple[int, int, int]:
    """(C, H, W) of the images that a graph takes, flat ones as (1, 1, F). Raises UserError for open sizes."""
    sizes = graph.shape[1:] if len(graph.shape) > 1 else graph.shape
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not 1 <= len(known) <= 3:
        raise UserError(f"expected a graph for images of one size in {graph.path}, got an input of shape {graph.shape}")
    one, two, three = (1, 1, 1, *known)[-3:]
    return one, two, three


def _built(graph: OnnxGraph, input_shape: tuple[int, int, int], size: int) -> fx.GraphModule:
    kind = next((v.dtype for v in graph.constants.values() if v.is_floating_point()), torch.float32)
    build = Builder((size, *input_shape), kind, graph.version)
    values: dict[str, Operand] = {**graph.constants, graph.input: _fitting(build, graph, input_shape)}
    for op in graph.operations:
        found = _made(build, graph, op, values)
        if twice := [name for name in op.outputs if name and name in values]:
            raise UserError(f"expected each name once in {graph.path}, got '{twice[0]}' again from {op.kind}")
        values.update(zip(op.outputs, found, strict=False))
    if graph.output not in values:
        raise UserError(f"expected the output '{graph.output}' of {graph.path} among what it computes, got none")
    result = values[graph.output]
    if isinstance(result, Tensor):
        raise UserError(f"expected an output of {graph.path} that follows from its input, got a constant")
    if len(result.shape) != 2:
        if math.prod(result.shape) % size or math.prod(result.shape) < 2 * size:
            raise UserError(
                f"expected logits of shape ({size}, classes >= 2) from {graph.path}, got {tuple(result.shape)}"
            )
        result = reshaped(build, result, (size, math.prod(result.shape) // size))
    return build.network(result)


def _fitting(build: Builder, graph: OnnxGraph, input_shape: tuple[int, int, int]) -> Operand:
    """The images (N, C, H, W) as the graph takes them: as they are, their channels last, or flat."""
    sizes = graph.shape[1:]
    channels, height, width = input_shape

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == len(sizes) and all(s is None or s == own for s, own in zip(sizes, shape, strict=True))

    if not graph.shape or fits(input_shape):
        return build.image
    if fits((height, width, channels)):
        return build.call(torch.permute, build.image, (0, 2, 3, 1))
    numbers = [size for size in sizes if size is not None]
    if len(numbers) == len(sizes) and math.prod(numbers) == math.prod(input_shape) and len(sizes) != 3:
        return reshaped(build, build.image, (build.batch, *numbers))
    if sum(size != 1 for size in sizes) <= 1 and math.prod(numbers) == math.prod(input_shape):
        return reshaped(build, build.image, (build.batch, *numbers))
    wanted = "x".join(map(str, sizes))
    raise UserError(f"expected images of shape {wanted} for {graph.path}, got {'x'.join(map(str, input_shape))}")


def _made(build: Builder, graph: OnnxGraph, op: Operation, values: Mapping[str, Operand]) -> tuple[Operand, ...]:
    """What comes of an operation. Raises UserError that names it."""
    make = OPERATORS.get(op.kind)
    if make is None:
        raise UserError(
            f"expected operators that robusteval reads ({', '.join(sorted(OPERATORS))}) in {graph.path}, got {op.kind} "
            f"'{op.name}'; export the network without it, or give its weights with --arch FILE.py:FUNCTION"
        )
    missing = [name for name in op.inputs if name and name not in values]
    if missing:
        raise UserError(f"expected '{missing[0]}' before {op.kind} '{op.name}' in {graph.path}, got none")
    try:
        found = make(build, op, [values[name] if name else None for name in op.inputs])
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # settings that do not fit raise all kinds
        raise UserError(
            f"expected {op.kind} '{op.name}' of {graph.path} with settings that fit, got: {first_line(error)}"
        ) from error
    return found if isinstance(found, tuple) else (found,)


def _alike(network: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether three images together are answered as each of them alone."""
    like = next((v for v in network.state_dict().values() if v.is_floating_point()), torch.zeros(()))
    pixels = torch.rand(3, *input_shape, generator=torch.Generator().manual_seed(0)).to(like.dtype)
    try:
        with torch.no_grad():
            # Calling the module itself would print what does not fit.
            together: Tensor = network.forward(pixels)
            alone = torch.cat([network.forward(pixel[None]) for pixel in pixels])
    except Exception:  # shapes that hold for one number of images
        return False
    if together.shape != alone.shape or len(together) != 3:
        return False
    size = alone.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp_min(1e-30)
    return bool(((together - alone).nan_to_num(0.0, 0.0, 0.0).abs() <= TOLERANCE * size).all())
