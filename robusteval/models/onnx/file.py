"""An ONNX file as data: its operators in order, their constants, its input and its output. Nothing of it is run.

Read with the `onnx` package, which is an extra. What lies outside of the file, beside it, is read where the file says
so, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robusteval.core.errors import LONGEST, UserError, first_line
from robusteval.core.foreign import one_line
from robusteval.core.limits import (
    ARRAY_NUMBERS,
    CHECKPOINT_KEYS,
    FILE_BYTES,
    check_file,
    check_limit_of,
    read_limited,
)
from robusteval.models.extras import imported

GRAPH_BYTES = 2**31
"""Of the file itself, which protobuf bounds; larger weights lie in files beside it."""
OLDEST = 7
"""The first set of operators in which arithmetic broadcasts as in NumPy."""
OWN = ("", "ai.onnx")
"""Names of the standard's own domain of operators."""
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    5: np.dtype("<i2"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
}
"""Types of numbers by their code in the standard (onnx.proto, TensorProto.DataType)."""


@dataclass(frozen=True, eq=False)
class Operation:
    """A node of the graph; empty names in `inputs` stand for inputs that are left out."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """A graph with one input and one output. shape: of the input, None for sizes that are left open."""

    path: Path
    version: int
    operations: tuple[Operation, ...]
    constants: Mapping[str, Tensor]
    input: str
    shape: tuple[int | None, ...]
    output: str


def read_onnx(path: Path) -> OnnxGraph:
    """What an ONNX file holds. Raises UserError in one line for what is none, is larger than the limits, holds custom
    operators, or names files outside of its folder."""
    onnx = imported("onnx", "onnx", f"to read {path}")
    raw = read_limited(path, GRAPH_BYTES, "an ONNX file")
    try:
        model = onnx.load_model_from_string(raw)
    except Exception as error:
        raise UserError(f"expected an ONNX graph in {path}, got bytes that are none; download it again") from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise UserError(f"expected an ONNX graph in {path}, got a file without operators; download it again")
    check_limit_of(path, len(graph.node) + len(graph.initializer), CHECKPOINT_KEYS, "operators and weights")
    if len(graph.sparse_initializer):
        raise UserError(f"expected dense weights in {path}, got sparse ones")
    constants = {tensor.name: _tensor(path, tensor) for tensor in graph.initializer}
    taken = [value for value in graph.input if value.name not in constants]
    if len(taken) != 1 or len(graph.output) != 1:
        raise UserError(
            f"expected a graph with one input and one output in {path}, got {len(taken)} and {len(graph.output)}"
        )
    shape = tuple(d.dim_value or None if d.HasField("dim_value") else None for d in taken[0].type.tensor_type.shape.dim)
    operations = tuple(_operation(path, node) for node in graph.node)
    return OnnxGraph(path, _version(path, model), operations, constants, taken[0].name, shape, graph.output[0].name)


def _version(path: Path, model: Any) -> int:
    """The set of operators that the graph is written in."""
    version = max((int(s.version) for s in model.opset_import if s.domain in OWN), default=1)
    if version < OLDEST:
        raise UserError(f"expected operators of set {OLDEST} or later in {path}, got {version}; export it again")
    return version


def _operation(path: Path, node: Any) -> Operation:
    if node.domain not in OWN:
        raise UserError(
            f"expected operators of the ONNX standard in {path}, got the custom operator {node.domain}.{node.op_type}"
        )
    settings = {attribute.name: _setting(path, node, attribute) for attribute in node.attribute}
    kind, name = (one_line(_text(found), LONGEST) for found in (node.op_type, node.name or node.op_type))
    return Operation(kind, name, tuple(node.input), tuple(node.output), settings)


def _text(found: str | bytes) -> str:
    """A name; protobuf hands on as bytes what is no UTF-8."""
    return found if isinstance(found, str) else found.decode("utf-8", "replace")


def _setting(path: Path, node: Any, attribute: Any) -> Any:
    """A float, a whole number, a text, lists of these, or a tensor."""
    match attribute.type:
        case 1:
            return float(attribute.f)
        case 2:
            return int(attribute.i)
        case 3:
            return attribute.s.decode("utf-8", "replace")
        case 4:
            return _tensor(path, attribute.t)
        case 6:
            return tuple(map(float, attribute.floats))
        case 7:
            return tuple(map(int, attribute.ints))
        case 8:
            return tuple(s.decode("utf-8", "replace") for s in attribute.strings)
    raise UserError(
        f"expected operators without graphs of their own in {path}, got {node.op_type} '{node.name}' with "
        f"'{attribute.name}'"
    )


def _tensor(path: Path, tensor: Any) -> Tensor:
    shape = tuple(tensor.dims)
    if tensor.data_type not in _TYPES or any(size < 0 for size in shape):
        raise UserError(f"expected numbers in '{tensor.name}' of {path}, got a tensor of type {tensor.data_type}")
    kind = _TYPES[tensor.data_type]
    count = 1
    for size in shape:
        count *= size
    check_limit_of(path, count, ARRAY_NUMBERS, f"numbers in '{tensor.name}'")
    if tensor.data_location == 1:
        array = np.frombuffer(_beside(path, tensor, count * kind.itemsize), kind).reshape(shape)
    else:
        numpy_helper = imported("onnx.numpy_helper", "onnx", f"to read {path}")
        try:
            array = np.asarray(numpy_helper.to_array(tensor)).reshape(shape)
        except Exception as error:
            raise UserError(
                f"expected {count} numbers in '{tensor.name}' of {path}, got: {first_line(error)}"
            ) from error
    return torch.from_numpy(np.array(array, dtype=kind.newbyteorder("=")))


def _beside(path: Path, tensor: Any, size: int) -> bytes:
    """The bytes of a tensor in another file in the folder of the graph."""
    entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
    named = PurePosixPath(entries.get("location", ""))
    folder = path.resolve().parent
    try:
        file = (folder / named).resolve()
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"expected the place of '{tensor.name}' in {path}, got: {first_line(error)}") from error
    if named.is_absolute() or not file.is_relative_to(folder):
        raise UserError(f"expected weights in the folder of {path}, got '{named}', which lies elsewhere")
    there = check_file(file, FILE_BYTES, f"the weights of {path}")
    if length != size or offset < 0 or offset + length > there:
        raise UserError(f"expected {size} bytes for '{tensor.name}' of {path} in {file.name}, got {there} in the file")
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(length)
