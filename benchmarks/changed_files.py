"""A good file of every kind that is read, and changes to it: bits turned, parts cut out, doubled and swapped, numbers
and words exchanged for hard ones. Every reader reads them or raises UserError, and nothing else."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

import robusteval
from robusteval.auditing.protocol import read_protocol
from robusteval.data import read_images
from robusteval.models.checkpoints import open_checkpoint
from robusteval.results.manifest import read_manifest
from robusteval.results.run import Run, read_arrays, read_frame

HARD = [
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"{}",
    b"[]",
    b'""',
    b"9" * 30,
    b"true",
    b"../x",
    b"\xff\xfe",
    b"\0",
]
HARD += [b"\0", b"[" * 3000, b'{"a":' * 3000, b"\x1b[2J", b"= 1", b"\n[[attacks]]\n"]
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
    return goods | {
        "idx": ("idx/t10k-images-idx3-ubyte", _idx(3, 8, 8), _read_idx),
        "idx gz": ("gz/t10k-images-idx3-ubyte.gz", gzip.compress(_idx(3, 8, 8), mtime=0), _read_idx),
        "npz": ("data.npz", _npz(), _data),
        "parquet": ("data.parquet", _parquet(), _data),
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
KINDS += ["idx", "idx gz", "npz", "parquet", "safetensors", "torch", "protocol", "manifest", "table", "arrays"]


def changed(draw: Any, content: bytes) -> bytes:
    """One to four changes; most of them in the first kilobyte or the last, where the structure is."""
    for _ in range(draw(st.integers(1, 4))):
        n = len(content)
        near = st.integers(0, min(n, 1000)) | st.integers(max(0, n - 1000), n) | st.integers(0, n)
        i, j = sorted((draw(near), draw(near)))
        match draw(st.sampled_from(["bit", "bytes", "cut", "end", "double", "swap", "hard", "word"])):
            case "bit" if i < n:
                content = content[:i] + bytes([content[i] ^ 1 << draw(st.integers(0, 7))]) + content[i + 1 :]
            case "bytes":
                content = content[:i] + draw(st.binary(max_size=8)) + content[i + 8 :]
            case "cut":
                content = content[:i] + content[j:]
            case "end":
                content = content[:i]
            case "double":
                content = content[:j] + content[i : i + 5000] + content[j:]
            case "swap":
                content = content[j:] + content[i:j] + content[:i]
            case "hard":
                content = content[:i] + draw(st.sampled_from(HARD)) + content[i:]
            case _:
                words = [m.span() for m in re.finditer(rb"[0-9.]+|[A-Za-z_]{2,}|\"[^\"]*\"", content[:20000])]
                if words:
                    a, b = draw(st.sampled_from(words))
                    content = content[:a] + draw(st.sampled_from(HARD)) + content[b:]
    return content
