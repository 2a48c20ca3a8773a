"""ONNX graphs compute in torch what they say, for any number of images, with gradients and proofs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onnx_graphs import RANDOM, convolutional, model, node, numpy_helper, weights, written
from propagating import images_for, proven
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.making import make_classifier
from robusteval.models.onnx.network import OPERATORS, open_onnx

SHAPE = (1, 8, 8)
TOLERANCE = 1e-5
"""Of answers against onnxruntime, relative to the largest; sums are taken in other orders."""


def images(count: int = 3, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def torch_twin(made: Any) -> nn.Module:
    """The same network written by hand."""
    own = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in made.graph.initializer}
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    )
    names = {"0.weight": "w1", "0.bias": "b1", "1.weight": "scale", "1.bias": "shift", "1.running_mean": "mean"}
    names |= {"1.running_var": "var", "5.weight": "w2", "5.bias": "b2", "7.weight": "w3", "7.bias": "b3"}
    state = {key: own[name] for key, name in names.items()} | {"7.weight": own["w3"].T}
    net.load_state_dict(state, strict=False)
    return net.eval()


@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_answers_and_jacobians_are_those_of_the_network_in_torch(tmp_path: Path, batch: int | str) -> None:
    made = convolutional(batch)
    opened = open_checkpoint(written(made, tmp_path / "net.onnx"), input_shape=SHAPE)
    twin, pixels = torch_twin(made), images(5)
    torch.testing.assert_close(opened(pixels), twin(pixels))
    _, jacobian = opened.jacobian(pixels)
    expected = torch.stack([torch.func.jacrev(lambda x: twin(x[None])[0])(x) for x in pixels])
    torch.testing.assert_close(jacobian, expected)


@pytest.mark.parametrize("name", ["crown", "ibp"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_proofs_pass_through_it_as_through_torch(tmp_path: Path, name: str, batch: int | str) -> None:
    made = convolutional(batch)
    opened = open_checkpoint(written(made, tmp_path / "net.onnx"), input_shape=SHAPE)
    images = images_for(opened, 4)
    found, expected = (
        proven(name, Norm.LINF, net, images) for net in (opened, make_classifier("twin", torch_twin(made), SHAPE))
    )
    assert (found > 0).all()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def one_operator(kind: str) -> list[tuple[Any, dict[str, Any], int]]:
    """Small graphs around an operator: from `x`, images 2x6x6, to `y`; with their constants and set of operators."""
    big, small = weights(big=(1, 2, 6, 6)), weights(small=(2, 1, 1))
    conv = weights(w=(4, 2, 3, 3), b=(4,))
    groups = weights(w=(4, 1, 3, 3))
    up = weights(w=(2, 3, 2, 2), b=(3,))
    bn = weights(s=(2,), b=(2,), m=(2,)) | {"v": RANDOM.uniform(0.5, 2, 2).astype(np.float32)}
    ints = {
        k: np.array(v, dtype=np.int64)
        for k, v in {
            "flat": [0, -1],
            "axis": [1],
            "plane": [2, 3],
            "two": [0, 1],
            "start": [1, 0],
            "end": [5, 6],
            "three": [3],
            "steps": [2, 3],
            "pads": [0, 0, 1, 0, 0, 0, 2, 1],
            "first": [0],
            "minus": [-1],
            "shape": [-1, 2, 36],
            "wide": [1, 2, 6, 6],
            "one": 1,
            "parts": [1, 1],
            "places": [[1, 0], [0, 1]],
        }.items()
    }
    numbers = {
        "half": np.float32(0.5),
        "low": np.float32(0.1),
        "high": np.float32(0.6),
        "slope": np.full((2, 1, 1), 0.2, np.float32),
    }
    sizes = {"twice": np.array([1, 1, 2, 3], np.float32), "third": np.array([1, 1, 0.5, 1.5], np.float32)}
    sizes["smaller"] = np.array([4, 5], np.int64)
    cases: dict[str, list[tuple[Any, dict[str, Any]]]] = {
        "Conv": [
            ([node("Conv", "x w b", "y", pads=[1, 2, 1, 2], strides=[2, 1])], conv),
            ([node("Conv", "x w b", "y", pads=[0, 1, 2, 1], dilations=[1, 2])], conv),
            ([node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])], conv),
            ([node("Conv", "x w", "y", auto_pad="SAME_LOWER", strides=[2, 2])], conv),
            ([node("Conv", "x w", "y", group=2)], groups),
        ],
        "ConvTranspose": [([node("ConvTranspose", "x w b", "y", strides=[2, 2])], up)],
        "Gemm": [
            ([node("Flatten", "x", "f"), node("Gemm", "f w b", "y", alpha=0.5, beta=2.0)], weights(w=(72, 5), b=(5,))),
            ([node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1)], weights(w=(5, 72), b=(1, 5))),
            ([node("Flatten", "x", "f"), node("Gemm", "f w", "y")], weights(w=(72, 5))),
        ],
        "MatMul": [
            ([node("MatMul", "x w", "y")], weights(w=(6, 3))),
            ([node("MatMul", "w x", "y")], weights(w=(3, 6))),
            ([node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "y")], {}),
        ],
        "Add": [
            ([node("Add", "x big", "y")], big),
            ([node("Add", "x x", "y")], {}),
            ([node("Add", "half x", "y")], numbers),
        ],
        "Sub": [([node("Sub", "x small", "y")], small), ([node("Sub", "big x", "y")], big)],
        "Mul": [([node("Mul", "x small", "y")], small), ([node("Mul", "x x", "y")], {})],
        "Div": [
            ([node("Div", "x half", "y")], numbers),
            ([node("Exp", "x", "e"), node("Div", "half e", "y")], numbers),
        ],
        "Pow": [([node("Pow", "x half", "y")], numbers)],
        "BatchNormalization": [([node("BatchNormalization", "x s b m v", "y", epsilon=1e-3)], bn)],
        "MaxPool": [
            ([node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0])], {}),
            ([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")], {}),
            ([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
            ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])], {}),
        ],
        "AveragePool": [
            ([node("AveragePool", "x", "y", kernel_shape=[2, 3], strides=[2, 1])], {}),
            ([node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
            ([node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1)], {}),
        ],
        "GlobalAveragePool": [([node("GlobalAveragePool", "x", "y")], {})],
        "GlobalMaxPool": [([node("GlobalMaxPool", "x", "y")], {})],
        "LayerNormalization": [([node("LayerNormalization", "x s b", "y", axis=-1)], weights(s=(6,), b=(6,)))],
        "InstanceNormalization": [([node("InstanceNormalization", "x s b", "y")], bn)],
        "LRN": [([node("LRN", "x", "y", size=3, alpha=0.1)], {})],
        "DepthToSpace": [
            (
                [node("Conv", "x w b", "c"), node("DepthToSpace", "c", "y", blocksize=2, mode=mode)],
                weights(w=(8, 2, 3, 3), b=(8,)),
            )
            for mode in ("DCR", "CRD")
        ],
        "Flatten": [([node("Flatten", "x", "y", axis=axis)], {}) for axis in (1, -3)],
        "Reshape": [([node("Reshape", f"x {name}", "y")], ints) for name in ("flat", "shape")],
        "Transpose": [([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], {})],
        "Concat": [([node("Concat", "x x x", "y", axis=axis)], {}) for axis in (1, -1)],
        "Squeeze": [([node("GlobalAveragePool", "x", "p"), node("Squeeze", "p plane", "y")], ints)],
        "Unsqueeze": [([node("Unsqueeze", "x axis", "y")], ints)],
        "Gather": [
            ([node("Gather", "x one", "y", axis=2)], ints),
            ([node("Gather", "x minus", "y", axis=3)], ints),
            ([node("Gather", "x places", "y", axis=1)], ints),
        ],
        "Shape": [
            (
                [
                    node("Shape", "x", "s"),
                    node("Gather", "s first", "n"),
                    node("Concat", "n minus", "t", axis=0),
                    node("Reshape", "x t", "y"),
                ],
                ints,
            )
        ],
        "Slice": [
            ([node("Slice", "x start end plane", "y")], ints),
            ([node("Slice", "x start end plane steps", "y")], ints),
        ],
        "Split": [
            ([node("Split", "x parts", "a y", axis=1)], ints),
            ([node("Split", "x", "y b c", axis=2, num_outputs=3)], {}),
        ],
        "Expand": [([node("GlobalAveragePool", "x", "p"), node("Expand", "p wide", "y")], ints)],
        "ConstantOfShape": [([node("ConstantOfShape", "wide", "o"), node("Sub", "x o", "y")], ints)],
        "Resize": [
            ([node("Resize", "x - twice", "y", **settings)], sizes)
            for settings in (
                {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
                {"mode": "cubic", "cubic_coeff_a": -0.75},
            )
        ]
        + [
            ([node("Resize", f"x - {by}", "y", nearest_mode=rounded, **of)], sizes)
            for by, of in (("- smaller", {"axes": [2, 3]}), ("third", {}))
            for rounded in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        ]
        + [([node("Resize", "x - - smaller", "y", mode="linear", axes=[2, -1])], sizes)],
        "Upsample": [([node("Upsample", "x twice", "y")], sizes)],
        "Pad": [
            ([node("Pad", "x pads half", "y")], ints | numbers),
            ([node("Pad", "x pads", "y", mode="edge")], ints),
            ([node("Pad", "x pads", "y", mode="reflect")], ints),
        ],
        "Identity": [([node("Identity", "x", "y")], {})],
        "Dropout": [([node("Dropout", "x", "y")], {})],
        "Cast": [([node("Cast", "x", "y", to=1)], {})],
        "Constant": [([node("Constant", "", "k", value_float=2.0), node("Mul", "x k", "y")], {})],
        "Clip": [
            ([node("Clip", "x low high", "y")], numbers),
            ([node("Clip", "x low", "y")], numbers),
            ([node("Clip", "x - high", "y")], numbers),
        ],
        "Softmax": [([node("Softmax", "x", "y", axis=axis)], {}) for axis in (-1, 1)],
        "LogSoftmax": [([node("LogSoftmax", "x", "y")], {})],
        "PRelu": [([node("Sub", "x half", "z"), node("PRelu", "z slope", "y")], numbers)],
        "Where": [([node("Greater", "x half", "c"), node("Where", "c x big", "y")], numbers | big)],
        "Sum": [([node("Sum", "x big x", "y")], big)],
        "Max": [([node("Max", "x big", "y")], big)],
        "Min": [([node("Min", "x big", "y")], big)],
        "Einsum": [([node("Einsum", "x w", "y", equation="nchw,wk->nchk")], weights(w=(6, 3)))],
        "LpNormalization": [([node("LpNormalization", "x", "y", axis=1, p=2)], {})],
        "HardSigmoid": [([node("HardSigmoid", "x", "y", alpha=0.5)], {})],
        "ReduceSum": [([node("ReduceSum", "x plane", "y", keepdims=0)], ints)],
        "Not": [([node("Less", "x half", "l"), node("Not", "l", "n"), node("Where", "n x big", "y")], numbers | big)],
        "Log": [([node("Exp", "x", "e"), node("Log", "e", "y")], {})],
        "Reciprocal": [([node("Exp", "x", "e"), node("Reciprocal", "e", "y")], {})],
    }
    for name in ("Mean", "Max", "Min", "L2", "LogSumExp"):
        cases[f"Reduce{name}"] = [
            ([node(f"Reduce{name}", "x", "y", axes=[2, 3], keepdims=keep)], {}) for keep in (0, 1)
        ]
    for name in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        cases[name] = [([node(name, "x half", "c"), node("Where", "c x big", "y")], numbers | big)]
    found = cases.get(kind, [([node("Sub", "x half", "z"), node(kind, "z", "y")], numbers)])
    version = {"Gelu": 20, "Mish": 18, "Split": 18, "Resize": 18, "Upsample": 9}.get(kind, 17)
    return [(nodes, dict(own), version) for nodes, own in found]


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_each_operator_computes_what_onnxruntime_computes(tmp_path: Path, kind: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    for i, (nodes, own, version) in enumerate(one_operator(kind)):
        assert any(kind == n.op_type for n in nodes)
        ends = [node("Shape", "y", "shape_", start=0, end=1), node("Constant", "", "rest_", value_ints=[-1])]
        ends += [node("Concat", "shape_ rest_", "to_", axis=0), node("Reshape", "y to_")]
        ends = ends if version > 9 else [node("Flatten", "y")]
        lead = node("Identity", "image", "x")
        made = model([lead, *nodes, *ends], own, ["N", 2, 6, 6], version=version)
        path = written(made, tmp_path / f"{i}.onnx")
        pixels = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(i))
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"image": pixels.numpy()})
        found = open_onnx(path, (2, 6, 6)).network(pixels).numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * np.nanmax(np.abs(expected)))


def test_a_graph_that_joins_the_images_of_a_batch_is_asked_for_one_at_a_time(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "image flat", "f"),
        node("ReduceMean", "f", "m", axes=[0], keepdims=1),
        node("Sub", "f m", "c"),
        node("Add", "c f", "s"),
        node("MatMul", "s w"),
    ]
    constants = weights(w=(64, 3)) | {"flat": np.array([1, 64])}
    path = written(model(nodes, constants, [1, 1, 8, 8]), tmp_path / "net.onnx")
    pixels = images(4)
    expected = pixels.flatten(1) @ torch.from_numpy(constants["w"])
    torch.testing.assert_close(open_checkpoint(path, input_shape=SHAPE)(pixels), expected)


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
def test_the_logits_are_what_a_last_softmax_takes_and_a_note_says_so(tmp_path: Path, end: str) -> None:
    constants = weights(w=(64, 3))
    nodes = [node("Flatten", "image", "f"), node("MatMul", "f w", "z"), node(end, "z")]
    path = written(model(nodes, constants, ["N", 1, 8, 8]), tmp_path / "net.onnx")
    opened, pixels = open_checkpoint(path, input_shape=SHAPE), images(4)
    torch.testing.assert_close(opened(pixels), pixels.flatten(1) @ torch.from_numpy(constants["w"]))
    assert opened.origin is not None
    assert end in opened.origin.notes[0]


@pytest.mark.parametrize("shape", [[1, 784], ["N", 784, 1], [1, 1, 784], [1, 28, 28, 1], [1, 1, 1, 784]])
def test_flat_images_and_channels_last_are_taken_as_the_graph_has_them(tmp_path: Path, shape: list[int | str]) -> None:
    constants = weights(w=(784, 3)) | {"flat": np.array([-1, 784])}
    nodes = [node("Reshape", "image flat", "f"), node("MatMul", "f w")]
    path = written(model(nodes, constants, shape), tmp_path / "net.onnx")
    pixels = images(2, (1, 28, 28))
    expected = pixels.flatten(1) @ torch.from_numpy(constants["w"])
    torch.testing.assert_close(open_checkpoint(path, input_shape=(1, 28, 28))(pixels), expected)


def test_channels_last_in_front_of_a_convolution_cancel_out_so_that_proofs_pass(tmp_path: Path) -> None:
    constants = weights(w=(4, 3, 3, 3), v=(4 * 36, 3))
    nodes = [
        node("Transpose", "image", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w", "c"),
        node("Relu", "c", "r"),
        node("Flatten", "r", "f"),
        node("MatMul", "f v"),
    ]
    path = written(model(nodes, constants, ["N", 8, 8, 3]), tmp_path / "net.onnx")
    opened = open_checkpoint(path, input_shape=(3, 8, 8))
    assert (proven("crown", Norm.LINF, opened, images_for(opened, 3)) > 0).all()


def refused(made: Any, path: Path) -> str:
    with pytest.raises(UserError) as error:
        open_checkpoint(written(made, path), input_shape=SHAPE)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)
    return str(error.value)


def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    shape: list[int | str] = ["N", 1, 8, 8]
    assert "custom operator evil.Run" in refused(model([node("Run", "image", domain="evil")], {}, shape), path)
    assert "got LSTM" in refused(model([node("LSTM", "image")], {}, shape), path)
    assert "got none" in refused(model([node("Relu", "nowhere")], {}, shape), path)
    assert "set 7" in refused(model([node("Relu", "image")], {}, shape, version=6), path)
    assert "one output" in refused(
        model([node("Relu", "image"), node("Relu", "image", "b")], {}, shape, "logits b"), path
    )
    assert "logits of shape" in refused(model([node("ReduceSum", "image")], {}, shape), path)
    large = {"large": np.array([2**20, 2**20])}
    assert "at most" in refused(
        model([node("ConstantOfShape", "large", "a"), node("Add", "image a")], large, shape), path
    )
    assert "at most" in refused(
        model([node("Pad", "image", pads=[0, 0, 0, 0, 0, 0, 2**20, 2**20])], {}, shape, version=9), path
    )
    many = [node("ConstantOfShape", "some", f"a{i}") for i in range(200)]
    assert "at most" in refused(model([*many, node("Relu", "image")], {"some": np.array([2**24])}, shape), path)
    odd = model([node("Flatten", "image", "f"), node("MatMul", "f w")], weights(w=(64, 3)), ["N", 3, 9, 9])
    assert "3x9x9" in refused(odd, path)
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="expected an ONNX graph"):
        open_checkpoint(path, input_shape=SHAPE)
    cut = convolutional().SerializeToString()
    path.write_bytes(cut[: len(cut) // 2])
    with pytest.raises(UserError, match=path.name):
        open_checkpoint(path, input_shape=SHAPE)


def outside(made: Any, location: str, size: int = 768, offset: int = 0) -> Any:
    """The model with the weights of `w` (64, 3) in another file."""
    tensor = next(t for t in made.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in {"location": location, "offset": str(offset), "length": str(size)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return made


def test_weights_beside_the_file_are_read_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def made() -> Any:
        return model([node("Flatten", "image", "f"), node("MatMul", "f w")], weights(w=(64, 3)), ["N", 1, 8, 8])

    own = np.linspace(-1, 1, 192, dtype=np.float32).reshape(64, 3)
    for place in (folder, tmp_path):
        (place / "w.bin").write_bytes(b"12345678" + own.tobytes())
    path = written(outside(made(), "w.bin", offset=8), folder / "net.onnx")
    pixels = images(2)
    torch.testing.assert_close(
        open_checkpoint(path, input_shape=SHAPE)(pixels), pixels.flatten(1) @ torch.from_numpy(own)
    )
    (folder / "link").symlink_to(tmp_path / "w.bin")
    for location in ("../w.bin", str(tmp_path / "w.bin"), "link"):
        assert "lies elsewhere" in refused(outside(made(), location, offset=8), path)
    assert "which is a folder" in refused(outside(made(), "."), path)
    assert "bytes" in refused(outside(made(), "w.bin", offset=9), path)
    assert "bytes" in refused(outside(made(), "w.bin", size=4), path)
    assert "bytes" in refused(outside(made(), "w.bin", offset=-8), path)
    assert "none" in refused(outside(made(), "none"), path)
