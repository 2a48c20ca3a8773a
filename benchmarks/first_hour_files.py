"""Models and data in every format that is read, as the tools of their formats write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import robusteval as rv
from robusteval.models.architectures import build_network
from robusteval.models.libraries.vision import with_torchvision

NETWORKS = """
from torch import nn
from robusteval.models.architectures import build_network


def gray():
    return build_network("digits-cnn")


def color(classes=10, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, classes))


def color20():
    return color(20)


def mnist():
    return color(10, 1)
"""
VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def make_models(folder: Path) -> None:
    """One network's weights in every format, and random ones of the packages that are installed."""
    (folder / "net.py").write_text(NETWORKS, encoding="utf-8", newline="\n")
    weights = load_file(Path(rv.__file__).parent / "demo" / "digits-standard.safetensors")
    gray = build_network("digits-cnn")
    gray.load_state_dict(weights)
    gray.eval()
    save_file(weights, folder / "gray.safetensors")
    save_file({k: v * 1.1 for k, v in weights.items()}, folder / "other.safetensors")
    for name in ("gray.pt", "gray.bin", "gray.pth.tar"):
        torch.save(gray.state_dict(), folder / name)
    optimizer = torch.optim.Adam(gray.parameters()).state_dict()
    torch.save({"epoch": 3, "state_dict": gray.state_dict(), "optimizer": optimizer}, folder / "training.pth")
    torch.save({f"module.{k}": v for k, v in weights.items()}, folder / "parallel.ckpt")
    torch.save(gray, folder / "whole.pt")
    (folder / "saved.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    _programs(gray, folder)
    torch.manual_seed(0)
    networks: dict[str, object] = {}
    exec(NETWORKS, networks)
    for name, file in (("color", "color"), ("color20", "color20"), ("mnist", "mnist")):
        network = networks[name]()  # type: ignore[operator]
        save_file(network.state_dict(), folder / f"{file}.safetensors")
    _of_packages(folder)


def _programs(gray: nn.Module, folder: Path) -> None:
    image = torch.rand(2, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(gray, image), folder / "gray.ts")
        torch.onnx.export(
            gray, (image,), folder / "gray.onnx", dynamo=False, dynamic_axes={"input": {0: "n"}}, input_names=["input"]
        )
    exported = torch.export.export(gray, (image,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(exported, folder / "gray.pt2")
    image = image[0].flatten()
    bounds = [
        f"(declare-const X_{i} Real)\n(assert (>= X_{i} {max(0, v - 1e-4):.6f}))\n(assert (<= X_{i} {v:.6f}))"
        for i, v in enumerate(image.tolist())
    ]
    outputs = [f"(declare-const Y_{i} Real)" for i in range(10)]
    label = int(gray(image.view(1, 1, 8, 8)).argmax())
    unsafe = " ".join(f"(and (>= Y_{i} Y_{label}))" for i in range(10) if i != label)
    lines = [*bounds, *outputs, f"(assert (or {unsafe}))"]
    (folder / "property.vnnlib").write_text("\n".join(lines), encoding="utf-8", newline="\n")


def _of_packages(folder: Path) -> None:
    import transformers

    timm, torchvision = (with_torchvision(name, name, "for its models") for name in ("timm", "torchvision"))
    save_file(timm.create_model("resnet10t", num_classes=10).state_dict(), folder / "timm.safetensors")
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=10).state_dict(), folder / "vision.pth")
    config = transformers.ViTConfig(**VIT, intermediate_size=32, num_labels=10)
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")


def make_data(folder: Path) -> None:
    """Digits (1, 8, 8) and random pictures (3, 32, 32), 20 of each."""
    digits = rv.read_images("digits", 20)
    gray = (digits.pixels[:, 0].numpy() * 255).round().astype(np.uint8)
    labels = digits.labels.numpy()
    _folders(folder, gray, labels)
    _tables(folder, gray, labels)
    _arrays(folder, gray, labels)
    drawn = np.random.default_rng(0)
    _cifar(folder, drawn.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8), np.arange(20) % 10)
    (folder / "idx").mkdir()
    large = np.kron(gray, np.ones((1, 3, 3), np.uint8))
    for name, values in (("t10k-images-idx3-ubyte.gz", large), ("t10k-labels-idx1-ubyte.gz", labels.astype(np.uint8))):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (folder / "idx" / name).write_bytes(gzip.compress(head + values.tobytes()))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _folders(folder: Path, gray: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    drawn = np.random.default_rng(1)
    for i, (pixels, label) in enumerate(zip(gray, labels, strict=True)):
        for place in (f"folder/{label}", f"splits/{'test' if i % 2 else 'train'}/{label}"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / f"{i}.png").write_bytes(_png(pixels))
        photo = folder / "photos" / f"n{label:08}"
        photo.mkdir(parents=True, exist_ok=True)
        size = (40 + i, 60 - i, 3)
        Image.fromarray(drawn.integers(0, 256, size, dtype=np.uint8)).save(photo / f"{i}.JPEG")
    for split in ("train", "test"):  # a class that a split lacks is a class all the same
        for label in range(10):
            (folder / "splits" / split / str(label)).mkdir(exist_ok=True)
    for label in range(10):
        (folder / "folder" / str(label)).mkdir(exist_ok=True)
        (folder / "photos" / f"n{label:08}").mkdir(exist_ok=True)
    with tarfile.open(folder / "shard-000000.tar", "w", encoding="utf-8") as archive:
        for i, (pixels, label) in enumerate(zip(gray, labels, strict=True)):
            for name, content in ((f"{i:06}.png", _png(pixels)), (f"{i:06}.cls", str(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _tables(folder: Path, gray: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    rows = [(p.relative_to(folder).as_posix(), p.parent.name) for p in sorted((folder / "folder").rglob("*.png"))]
    for name, mark, header in (("list.csv", ",", ("path", "label")), ("named.tsv", "\t", ("where", "what"))):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=mark).writerows([header, *rows])
    cells = pa.array([{"bytes": _png(pixels), "path": None} for pixels in gray])
    table = pa.table({"image": cells, "label": pa.array(labels)})
    (folder / "hub" / "data").mkdir(parents=True)
    for i in range(2):
        pq.write_table(table.slice(10 * i, 10), folder / "hub" / "data" / f"test-{i:05}-of-00002.parquet")
    (folder / "saved").mkdir()
    saved = str(folder / "saved" / "data-00000-of-00001.arrow")
    with pa.OSFile(saved, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "saved" / "state.json").write_text(json.dumps({"_data_files": files}), encoding="utf-8", newline="\n")


def _arrays(folder: Path, gray: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    pixels = gray[:, None]
    np.save(folder / "pixels.npy", pixels)
    np.save(folder / "answers.npy", labels)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    np.savez(folder / "keras.npz", x_test=gray, y_test=labels[:, None])
    np.savez(folder / "bytes.npz", x=pixels.astype(np.float32), y=labels)
    (folder / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    torch.save((torch.from_numpy(pixels) / 255, torch.from_numpy(labels)), folder / "tensors.pt")


def _cifar(folder: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    rows = pixels.reshape(len(pixels), -1)
    names = [b"class %d" % i for i in range(10)]
    for place in ("batches", "binary", "hundred"):
        (folder / place).mkdir()
    held = {b"data": rows, b"labels": labels.tolist(), b"filenames": [b"%d.png" % i for i in range(len(rows))]}
    (folder / "batches" / "test_batch").write_bytes(pickle.dumps(held))
    (folder / "batches" / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    lines = np.concatenate([labels[:, None].astype(np.uint8), rows], axis=1)
    (folder / "binary" / "test_batch.bin").write_bytes(lines.tobytes())
    fine = {b"data": rows, b"fine_labels": labels.tolist(), b"coarse_labels": (labels * 2).tolist()}
    (folder / "hundred" / "test").write_bytes(pickle.dumps(fine))
