"""Proofs pass through the operators of ONNX graphs that are layers that bounds pass through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onnx_graphs import model, node, weights, written
from propagating import evaluated, images_for, proven
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import Norm
from robusteval.models.checkpoints import open_checkpoint

SHAPE = (1, 8, 8)
STEPS: dict[str, list[Any]] = {
    **{
        kind: [node(kind, "a", "b")]
        for kind in ("LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Abs", "Neg")
    },
    "PRelu": [node("PRelu", "a slopes", "b")],
    "HardSigmoid": [node("HardSigmoid", "a", "b")],
    "Clip": [node("Clip", "a low high", "b")],
    "Sub": [node("Relu", "a", "r"), node("Sub", "a r", "b")],
    "Transpose": [node("Transpose", "a", "b", perm=[0, 2, 3, 1])],
    "Slice": [node("Slice", "a starts ends axes steps", "b")],
    "Split": [node("Split", "a", "s t", axis=2, num_outputs=2), node("Sub", "s t", "b")],
    "Concat": [node("Concat", "a a", "b", axis=3)],
    **{f"Pad {mode}": [node("Pad", "a pads", "b", mode=mode)] for mode in ("constant", "reflect", "edge")},
    "AveragePool": [node("AveragePool", "a", "b", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1)],
    "MaxPool": [node("MaxPool", "a", "b", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
    "GlobalMaxPool": [node("GlobalMaxPool", "a", "b")],
    "ReduceMean": [node("ReduceMean", "a", "b", axes=[2], keepdims=1)],
    "ConvTranspose": [node("ConvTranspose", "a up", "b", strides=[2, 2], output_padding=[1, 1])],
    "Gather": [node("Gather", "a chosen", "b", axis=1)],
}
INPUTS = {
    "slopes": np.array([0.1, -0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1),
    "low": np.array(-0.2, np.float32),
    "high": np.array(0.3, np.float32),
    "starts": np.array([1, 0]),
    "ends": np.array([8, 7]),
    "axes": np.array([2, 3]),
    "steps": np.array([2, 1]),
    "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1]),
    "chosen": np.array([2, 0, 2]),
}


@pytest.mark.parametrize("kind", STEPS)
def test_an_operator_has_bounds(kind: str, tmp_path: Path) -> None:
    own = weights(w=(4, 1, 3, 3), up=(4, 2, 3, 3)) | INPUTS
    nodes = [node("Conv", "image w", "a", pads=[1] * 4), *STEPS[kind], node("Flatten", "b")]
    used = {name for step in nodes for name in step.input}
    constants = {name: value for name, value in own.items() if name in used}
    made = model(nodes, constants, ("N", *SHAPE), version=18 if kind == "Split" else 17)
    opened = open_checkpoint(written(made, tmp_path / "net.onnx"), input_shape=SHAPE)
    images = images_for(opened, 3)
    found = evaluated(trace(opened), images.pixels)[-1].flatten(1)
    torch.testing.assert_close(found, opened.predict(images.pixels).double(), rtol=1e-4, atol=1e-5)
    assert proven("crown", Norm.LINF, opened, images).isfinite().all()
