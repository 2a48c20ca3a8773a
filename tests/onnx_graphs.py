"""Small ONNX graphs as the tests make them, with random weights; they need the package `onnx`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT = onnx.TensorProto.FLOAT
Weights = Mapping[str, Any]
RANDOM = np.random.default_rng(0)


def weights(**shapes: tuple[int, ...]) -> dict[str, Any]:
    """Uniform in [-0.5, 0.5]."""
    return {name: RANDOM.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def node(kind: str, inputs: str, outputs: str = "", **settings: Any) -> Any:
    """An operator; names with spaces between them, `-` for an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, (outputs or "logits").split(), name=f"{kind}_{outputs}", **settings)


def model(
    nodes: Sequence[Any], constants: Weights, shape: Sequence[int | str], outputs: str = "logits", version: int = 17
) -> Any:
    """A model whose input is `image` of that shape."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("image", FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def written(made: Any, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def convolutional(batch: int | str = "N") -> Any:
    """1x8x8 images -> 4 logits: convolution, batch normalisation, ReLU, pooling, two linear layers."""
    own = weights(
        w1=(3, 1, 3, 3), b1=(3,), scale=(3,), shift=(3,), mean=(3,), w2=(12, 48), b2=(12,), w3=(12, 4), b3=(4,)
    )
    own["var"] = RANDOM.uniform(0.5, 1.5, 3).astype(np.float32)
    nodes = [
        node("Conv", "image w1 b1", "a", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", "a scale shift mean var", "b"),
        node("Relu", "b", "c"),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "d", "e"),
        node("Gemm", "e w2 b2", "f", transB=1),
        node("Relu", "f", "g"),
        node("MatMul", "g w3", "h"),
        node("Add", "h b3"),
    ]
    return model(nodes, own, [batch, 1, 8, 8])
