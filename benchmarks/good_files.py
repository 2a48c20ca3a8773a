"""A good file of every kind that is read, to be changed (changed_files.py)."""

from __future__ import annotations

import gzip
import importlib.util
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file

import robusteval
from robusteval.auditing.protocol import read_protocol
from robusteval.data import read_images
from robusteval.data.vnnlib import read_property
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.onnx.network import open_onnx
from robusteval.results.files import read_arrays, read_frame
from robusteval.results.manifest import read_manifest
from robusteval.results.run import Run

Read = Callable[[Path], object]


def _image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, kind)
    return buffer.getvalue()


def _idx(*shape: int) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return head + bytes(i % 5 for i in range(int(np.prod(shape))))


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((3, 1, 8, 8), np.uint8), y=np.array([0, 1, 2]))
    return buffer.getvalue()


def _parquet() -> bytes:
    cells = pa.array([{"bytes": _image("PNG")}] * 3, pa.struct([("bytes", pa.binary())]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": cells, "label": pa.array([0, 1, 2])}), buffer)
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 1, 8, 8), np.uint8))
    return buffer.getvalue()


def _arrow() -> bytes:
    cells = pa.array([{"bytes": _image("PNG")}] * 3, pa.struct([("bytes", pa.binary())]))
    found = pa.table({"image": cells, "label": pa.array([0, 1, 2]), "kind": pa.array(["a"] * 3).dictionary_encode()})
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, found.schema) as writer:
        writer.write_table(found, max_chunksize=2)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="utf-8") as archive:
        for name, content in (
            ("1.png", _image("PNG")),
            ("1.cls", b"0"),
            ("2.png", _image("PNG")),
            ("2.json", b'{"label": 1}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _batch() -> bytes:
    held = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"filenames": [b"a", "b"]}
    return pickle.dumps(held, protocol=2)


def _tensors() -> bytes:
    buffer = io.BytesIO()
    torch.save({"images": torch.zeros(3, 1, 8, 8), "labels": torch.arange(3)}, buffer)
    return buffer.getvalue()


def _read_npy(path: Path) -> object:
    np.save(path.with_name("labels.npy"), np.arange(3))
    return read_images(str(path))


def _read_list(path: Path) -> object:
    path.with_name("1.png").write_bytes(_image("PNG"))
    return read_images(str(path))


def _onnx() -> bytes:
    from onnx_graphs import convolutional

    content: bytes = convolutional().SerializeToString()
    return content


def _property() -> bytes:
    box = [f"(declare-const X_{i} Real) (assert (and (>= X_{i} 0.1) (<= X_{i} 0.3)))" for i in range(4)]
    names = "(declare-const Y_0 Real) (declare-const Y_1 Real) ; two classes"
    return "\n".join([names, *box, "(assert (or (and (>= Y_0 Y_1))))"]).encode()


def _read_property(path: Path) -> object:
    return read_property(path).images((1, 2, 2))


def _weights(suffix: str, demo: Path) -> bytes:
    if suffix == "safetensors":
        return demo.read_bytes()
    buffer = io.BytesIO()
    torch.save({"state_dict": load_file(demo)}, buffer)
    return buffer.getvalue()


def _opened(path: Path) -> object:
    return open_checkpoint(path, "digits-cnn", input_shape=(1, 8, 8))


def _read_idx(path: Path) -> object:
    labels = _idx(3)
    name = path.name.replace("images-idx3", "labels-idx1")
    path.with_name(name).write_bytes(gzip.compress(labels) if name.endswith(".gz") else labels)
    return read_images(str(path.parent))


def _images(path: Path) -> object:
    return read_images(str(path.parents[1]))


def _data(path: Path) -> object:
    return read_images(str(path))


def good_files(run: Run) -> dict[str, tuple[str, bytes, Read]]:
    """By its kind: the path of a good file below a folder, what is in it, and its reader. `run` gives the files of a
    run."""
    package = Path(robusteval.__file__).parent
    demo = package / "demo" / "digits-standard.safetensors"
    goods: dict[str, tuple[str, bytes, Read]] = {
        f"image {kind}": ("data/0/1.png", _image(kind), _images)
        for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
    }
    if "onnx" in KINDS:
        goods["onnx"] = ("model.onnx", _onnx(), lambda path: open_onnx(path, (1, 8, 8)))
    return goods | {
        "idx": ("idx/t10k-images-idx3-ubyte", _idx(3, 8, 8), _read_idx),
        "idx gz": ("gz/t10k-images-idx3-ubyte.gz", gzip.compress(_idx(3, 8, 8), mtime=0), _read_idx),
        "npz": ("data.npz", _npz(), _data),
        "parquet": ("data.parquet", _parquet(), _data),
        "npy": ("data.npy", _npy(), _read_npy),
        "arrow": ("data.arrow", _arrow(), _data),
        "tar": ("data.tar", _tar(), _data),
        "csv": ("data.csv", b'path,label,split\n"1.png",0,test\n./1.png,1,test\n', _read_list),
        "batch": ("test_batch", _batch(), _data),
        "tensors": ("data.pt", _tensors(), _data),
        "vnnlib": ("property.vnnlib", _property(), _read_property),
        "safetensors": ("model.safetensors", _weights("safetensors", demo), _opened),
        "torch": ("model.pt", _weights("pt", demo), _opened),
        "protocol": (
            "protocol.toml",
            (package / "protocols" / "everything.toml").read_bytes(),
            lambda path: read_protocol(str(path)),
        ),
        "table": ("table.parquet", next(run.path.rglob("*.parquet")).read_bytes(), read_frame),
        "arrays": ("arrays.safetensors", demo.read_bytes(), read_arrays),
        "manifest": ("manifest.json", (run.path / "manifest.json").read_bytes(), read_manifest),
    }


KINDS = [f"image {kind}" for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]
KINDS += ["npy", "arrow", "tar", "csv", "batch", "tensors", "vnnlib"]
KINDS += ["onnx"] if importlib.util.find_spec("onnx") else []
KINDS += ["idx", "idx gz", "npz", "parquet", "safetensors", "torch", "protocol", "manifest", "table", "arrays"]
