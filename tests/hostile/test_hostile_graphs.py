"""ONNX graphs of strangers, opened in a watched process: nothing executes, no file outside of the folder is read,
nothing hangs or fills the memory, and every refusal is one line."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confining import Action, Outcome, confined_each
from onnx_graphs import FLOAT, convolutional, helper, model, node, numpy_helper, onnx, weights
from robusteval.cli.running import open_checkpoints
from robusteval.core.errors import UserError
from robusteval.data import read_images

COUNTS = {"damaged graphs": 60, "graphs with weights elsewhere": 23, "large graphs": 26, "odd graphs": 28}
"""Files of each kind; docs/safety.md has the same table."""
SHAPE: list[int | str] = ["N", 1, 8, 8]
Files = Iterator[tuple[str, bytes]]
ROOT = Path(__file__).parents[2]


def linear(nodes: Sequence[Any] = (), last: str = "image", **constants: Any) -> Any:
    """`nodes` from `image` to `last`, and a linear layer after them; "w" is (64, 3) if nothing else is given."""
    own = weights(w=(64, 3)) | {name: np.asarray(value) for name, value in constants.items()}
    return model([*nodes, node("Flatten", last, "f_"), node("MatMul", "f_ w")], own, SHAPE)


def damaged(_: Path) -> Files:
    chance = random.Random(0)
    whole = convolutional().SerializeToString()
    for i in range(20):
        yield f"cut{i}", whole[: chance.randrange(1, len(whole) - 10)]
        turned = bytearray(whole)
        for _i in range(3):
            turned[chance.randrange(min(400, len(turned)))] = chance.randrange(256)
        yield f"turned{i}", bytes(turned)
        start = chance.randrange(len(whole))
        yield f"doubled{i}", whole[:start] + whole[start // 2 : start // 2 + 200] + whole[start:]


def elsewhere(folder: Path) -> Files:
    """Weights that lie outside of the file, at places where none may be read."""
    (folder / "weights").write_bytes(bytes(768))
    os.mkfifo(folder / "fifo")
    os.mkdir(folder / "inner")
    for name, target in (("link", "../secret"), ("zeros", "/dev/zero"), ("circle", "circle"), ("up", "..")):
        (folder / name).symlink_to(target)
    (folder.parent / "secret").write_bytes(bytes(768))
    places = ["../secret", str(folder.parent / "secret"), "inner/../../secret", "link", "up/secret", "./../secret"]
    places += ["zeros", "/dev/zero", "/dev/stdin", "/proc/self/mem", "fifo", "inner", "circle", ".", "", "none"]
    places += ["x" * 5000, "a\0b", "file:///etc/passwd", "http://localhost/weights"]
    for i, place in enumerate(places):
        yield f"place{i}", outside(linear(), location=place)
    yield "offset", outside(linear(), location="weights", offset="-8")
    yield "length", outside(linear(), location="weights", offset="0", length=str(2**62))
    yield "no words", outside(linear(), location="weights").replace(b"\x07weights", b"\x07weight\xff")


def outside(made: Any, **entries: str) -> bytes:
    """The graph with its weights "w" in another file."""
    tensor = next(t for t in made.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    content: bytes = made.SerializeToString()
    return content


def large(_: Path) -> Files:
    """Small files that ask for much: memory, time, or depth."""
    ones = node("ConstantOfShape", "shape", "c")
    for i, shape in enumerate(([2**31, 2**31], [2**62, 4], [-1, 5], [2**20, 2**20], [2**28])):
        yield f"constant{i}", linear([ones, node("Add", "image c", "s")], "s", shape=shape).SerializeToString()
        yield f"expand{i}", linear([node("Expand", "image shape", "s")], "s", shape=shape).SerializeToString()
    double = [node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=1) for i in range(60)]
    yield "doubling image", linear([node("Identity", "image", "v0"), *double], "v60").SerializeToString()
    yield "doubling constant", linear([node("Identity", "w", "v0"), *double], "v60").SerializeToString()
    square = [node("ConstantOfShape", "shape", "v0"), *(node("MatMul", f"v{i} v{i}", f"v{i + 1}") for i in range(20))]
    yield "products", linear([*square, node("Add", "image v20", "s")], "s", shape=[3500, 3500]).SerializeToString()
    pad = node("Pad", "image pads", "p")
    yield "pad", linear([pad], "p", pads=[0, 0, 0, 0, 0, 0, 2**30, 2**30]).SerializeToString()
    wide = node("Pad", "image pads", "v0")
    many = [node("Relu", f"v{i}", f"v{i + 1}") for i in range(500)]
    pads = [0, 0, 0, 0, 0, 0, 4000, 4000]
    yield "many values", linear([wide, *many], "v500", pads=pads).SerializeToString()
    kernel = node("ConstantOfShape", "shape", "k")
    convolved = [pad, kernel, node("Conv", "p k", "v", pads=[500] * 4)]
    pads = [0, 0, 0, 0, 0, 0, 1000, 1000]
    yield "kernel", linear(convolved, "v", pads=pads, shape=[8, 1, 1000, 1000]).SerializeToString()
    equation = node("Einsum", "image image image", "e", equation="abcd,efgh,ijkl->abcdefghijkl")
    yield "einsum", linear([equation], "e").SerializeToString()
    deep = [node("Relu", f"v{i}", f"v{i + 1}") for i in range(25_000)]
    yield "deep", linear([node("Identity", "image", "v0"), *deep], "v25000").SerializeToString()
    dims = linear()
    dims.graph.initializer[0].dims[:] = [2**31, 2**31]
    yield "dims", dims.SerializeToString()
    dims.graph.initializer[0].dims[:] = [1] * 10_000
    yield "axes", dims.SerializeToString()
    sizes = node("Resize", "image - sizes", "r")
    for i, by in enumerate(([1, 1, 1e9, 1e9], [1, 1, 1e6, 1e-9], [1, 1, -1, float("nan")], [1e9, 1, 1, 1], [2])):
        yield f"resize{i}", linear([sizes], "r", sizes=np.array(by, np.float32)).SerializeToString()
    yield "length", b"\x3a" + b"\xff" * 8 + b"\x7f" + bytes(100)


def branch(nodes: Sequence[Any] = ()) -> Any:
    """A graph within an operator."""
    out = helper.make_tensor_value_info("b", FLOAT, None)
    return helper.make_graph(list(nodes) or [node("Identity", "image", "b")], "branch", [], [out])


def within(depth: int) -> bytes:
    """A graph in a setting of an operator of a graph, and so on: fields 1, 5 and 6 of the messages in one another."""
    found = b""
    for i in range(depth):
        size, length = len(found), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        found = bytes([(6, 5, 1)[i % 3] << 3 | 2]) + length + bytes([size]) + found
    return found


def odd(folder: Path) -> Files:
    """Custom operators, graphs within graphs, loops, names and settings that are none."""
    canary = str(folder / "canary")
    for domain, kind in (("evil", "Run"), ("com.microsoft", "Gelu"), ("ai.onnx.ml", "TreeEnsemble"), ("\x1b[2J", "A")):
        yield f"custom-{len(domain)}", linear([node(kind, "image", "s", domain=domain)], "s").SerializeToString()
    program = node("PyOp", "image", "s", domain="ai.onnx.contrib", module="os", func="system", code=f"touch {canary}")
    yield "python", linear([program], "s").SerializeToString()
    made = linear([node("Mine", "image", "s", domain="mine")], "s")
    made.functions.append(
        helper.make_function(
            "mine", "Mine", ["a"], ["b"], [node("Mine", "a", "b", domain="mine")], [helper.make_opsetid("", 17)]
        )
    )
    yield "function", made.SerializeToString()
    test = node("If", "test", "s", then_branch=branch(), else_branch=branch())
    yield "if", linear([test], "s", test=np.array(True)).SerializeToString()
    yield (
        "loop",
        linear([node("Loop", "n test image", "s", body=branch())], "s", n=2**62, test=True).SerializeToString(),
    )
    yield "scan", linear([node("Scan", "image", "s", body=branch(), num_scan_inputs=1)], "s").SerializeToString()
    yield "nested", within(2_000)
    yield "circle", linear([node("Add", "b image", "a"), node("Add", "a image", "b")], "b").SerializeToString()
    yield "itself", linear([node("Add", "s image", "s")], "s").SerializeToString()
    yield "twice", linear([node("Relu", "image", "image")]).SerializeToString()
    yield "constant", model([node("Identity", "w")], weights(w=(1, 3)), SHAPE).SerializeToString()
    yield "kind", linear([node("\x1b[2J\r\n__import__('os')", "image", "s")], "s").SerializeToString()
    name = linear([node("LSTM", "image", "s")], "s")
    name.graph.node[0].name = "x\n" * 10_000
    yield "name", name.SerializeToString()
    axes: list[dict[str, Any]] = [{"axis": 2**62}, {"axis": "x"}, {"axis": [1]}, {}]
    for i, settings in enumerate(axes):
        yield f"setting{i}", linear([node("Concat", "image image", "s", **settings)], "s").SerializeToString()
    yield "perm", linear([node("Transpose", "image", "s", perm=[0, 0, 9, -9])], "s").SerializeToString()
    yield "kernel", linear([node("MaxPool", "image", "s", kernel_shape=[0, 2**40])], "s").SerializeToString()
    yield (
        "strides",
        linear([node("MaxPool", "image", "s", kernel_shape=[2, 2], strides=[0, -1])], "s").SerializeToString(),
    )
    yield "words", linear(text=np.array(["a"])).SerializeToString()
    sparse = linear()
    sparse.graph.sparse_initializer.add()
    yield "sparse", sparse.SerializeToString()
    two = linear()
    two.graph.input.append(helper.make_tensor_value_info("second", FLOAT, [1]))
    yield "inputs", two.SerializeToString()
    bytes_of_none = linear()
    bytes_of_none.graph.initializer[0].raw_data = b"abc"
    yield "bytes", bytes_of_none.SerializeToString()
    yield "names", linear([node("Relu", "image", "s")], "s").SerializeToString().replace(b"Relu", b"R\xff\xfeu")
    yield "nothing", onnx.ModelProto().SerializeToString() + b"\x08\x08"


KINDS: dict[str, Callable[[Path], Files]] = {
    "damaged graphs": damaged,
    "graphs with weights elsewhere": elsewhere,
    "large graphs": large,
    "odd graphs": odd,
}


def opened(path: Path) -> Action:
    def action() -> int:
        try:
            open_checkpoints([str(path)], None, read_images("digits", 1), None, None)
        except UserError as error:
            print(f"error: {error}")
            return 2
        return 0

    return action


def wrong(kind: str, found: Outcome) -> bool:
    lines = found.output.strip().splitlines()
    read = found.code == 0 and kind == "damaged graphs"
    refused = found.code == 2 and len(lines) == 1 and lines[0].startswith("error: expected ")
    return not (found.clean and (read or refused)) or "\x1b" in found.output or len(found.output) > 3000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_graphs_of_strangers_are_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    read_images("digits", 1)
    files, folder = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    folder.mkdir()
    actions: dict[str, Action] = {}
    for name, content in KINDS[kind](files):
        (files / f"{name}.onnx").write_bytes(content)
        actions[name] = opened(files / f"{name}.onnx")
    outcomes = confined_each(actions, folder, seconds=20)
    assert {name: found for name, found in outcomes.items() if wrong(kind, found)} == {}
    assert len(outcomes) == COUNTS[kind]
    assert not (files / "canary").exists()
    assert not any(folder.iterdir())
    if kind != "damaged graphs":
        paths = [name for name, found in outcomes.items() if f"{name}.onnx" not in found.output]
        assert not paths


def test_good_graphs_are_read(tmp_path: Path) -> None:
    """What the hostile ones are made of."""
    (tmp_path / "out").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").write_bytes(struct.pack("<192f", *range(192)))
    files = {"plain": linear(), "network": convolutional()}
    content = {name: made.SerializeToString() for name, made in files.items()}
    content["beside"] = outside(linear(), location="inner/w.bin")
    content["upwards"] = outside(linear(), location="inner/../inner/w.bin", offset="0", length="768")
    content["text"] = linear([node("Relu", "image", "s")], "s").SerializeToString()
    actions = {}
    for name, raw in content.items():
        (tmp_path / f"{name}.onnx").write_bytes(raw)
        actions[name] = opened(tmp_path / f"{name}.onnx")
    outcomes = confined_each(actions, tmp_path / "out")
    assert {name: found.output for name, found in outcomes.items() if found.code or not found.clean} == {}
    assert numpy_helper.to_array(files["plain"].graph.initializer[0]).shape == (64, 3)


def test_the_table_of_counts_is_that_of_the_documentation() -> None:
    text = (ROOT / "docs" / "safety.md").read_text()
    assert not [kind for kind, count in COUNTS.items() if f"| {kind} | {count} |" not in text]
