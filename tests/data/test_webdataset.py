"""WebDataset: samples in tar files, read without unpacking."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images

IMAGES = np.random.default_rng(6).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[i]).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes], kind: int = tarfile.PAX_FORMAT, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(rows: range, label: str = "cls") -> dict[str, bytes]:
    held: dict[str, bytes] = {}
    for i in rows:
        held[f"{i:04d}.png"] = png(i)
        held[f"{i:04d}.{label}"] = str(i).encode() if label == "cls" else json.dumps({"label": i, "k": 9 - i}).encode()
    return held


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("label", ["cls", "json"])
def test_a_tar(kind: int, label: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", samples(range(5), label), kind)
    images = read_images(str(path))
    assert torch.equal(images.pixels, PIXELS)
    assert images.labels.tolist() == [0, 1, 2, 3, 4]
    assert images.ids[3] == "0003"
    assert torch.equal(read_images(str(path), 2).pixels, PIXELS[:2])


def test_shards_splits_and_keys(tmp_path: Path) -> None:
    tar(tmp_path / "train-000000.tar", samples(range(3), "json"))
    tar(tmp_path / "train-000001.tar", samples(range(3, 5), "json"))
    tar(tmp_path / "val-000000.tar", samples(range(1), "json"))
    images = read_images(f"{tmp_path}:train", reading=Reading(label_column="k"))
    assert torch.equal(images.pixels, PIXELS)
    assert images.labels.tolist() == [9, 8, 7, 6, 5]
    assert images.ids[3] == "train-000001.tar/0003"
    assert len(read_images(f"{tmp_path}:validation")) == 1
    with pytest.raises(UserError, match=r"splits of .*, train, val, got none; name it with --split"):
        read_images(str(tmp_path))


def test_names_of_suffixes(tmp_path: Path) -> None:
    held = {"a/1.left.png": png(0), "a/1.right.png": png(1), "a/1.kind": b" 7\n", "a/1.note": b"x" * 10}
    path = tar(tmp_path / "x.tar", {"./" + name: content for name, content in held.items()})
    asked = Reading(image_column="right.png", label_column="kind", crop=4)
    images = read_images(str(path), reading=asked)
    assert torch.equal(images.pixels, PIXELS[1:2, :, 1:5, 1:5])
    assert (images.ids, images.labels.tolist()) == (("a/1",), [7])
    with pytest.raises(
        UserError, match=r"one image in a/1 of .*, got left.png, right.png, kind, note; name its suffix"
    ):
        read_images(str(path), reading=Reading(label_column="kind"))


def link(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, kind, to in (("1.png", tarfile.SYMTYPE, "/etc/passwd"), ("1.cls", tarfile.LNKTYPE, "/etc/passwd")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            archive.addfile(member)
    return path


def huge(path: Path) -> Path:
    member = tarfile.TarInfo("1.png")
    member.size = 2**33
    path.write_bytes(member.tobuf() + bytes(1024))
    return path


def packed(path: Path) -> Path:
    tar(path, samples(range(1)))
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


REFUSED: dict[str, Any] = {
    "no label": (lambda p: tar(p, {"1.png": png(0)}), "expected a whole number in cls"),
    "no image": (lambda p: tar(p, {"1.cls": b"0"}), "expected one image in 1 of"),
    "two images": (lambda p: tar(p, {"1.png": png(0), "1.jpg": png(1), "1.cls": b"0"}), "expected one image in 1 of"),
    "half a label": (lambda p: tar(p, {"1.png": png(0), "1.cls": b"0.5"}), "got '0.5'"),
    "label in words": (
        lambda p: tar(p, {"1.png": png(0), "1.json": b'{"label": "cat"}'}),
        "got 'cat'; name a member or a key with numbers",
    ),
    "true": (lambda p: tar(p, {"1.png": png(0), "1.json": b'{"label": true}'}), "expected a whole number"),
    "deep json": (lambda p: tar(p, {"1.png": png(0), "1.json": b"[" * 10**5}), "expected a whole number"),
    "broken image": (lambda p: tar(p, {"1.png": png(0)[:50], "1.cls": b"0"}), "expected an image in 1 of"),
    "sample twice": (lambda p: tar(p, {**samples(range(2)), "./0000.png": png(2), "./0000.cls": b"1"}), "distinct"),
    "links": (link, "at least one image"),
    "empty": (lambda p: tar(p, {}), "at least one image"),
    "too large": (huge, "at most 67,108,864 bytes in 1.png of"),
    "packed": (packed, "expected a tar that is not packed in"),
    "text": (lambda p: p.write_text("no tar") and p, "expected a tar that is not packed in"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_tars_are_one_line_on_the_command_line(name: str, tmp_path: Path) -> None:
    build, said = REFUSED[name]
    path = tmp_path / "x.tar"
    build(path)
    done = here("audit", "none.pt", "--data", path, "--out", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected ")
    assert said in line
    assert str(path) in line


def test_tars_through_the_command_line(tmp_path: Path) -> None:
    tar(tmp_path / "data" / "test-0.tar", samples(range(4)))
    done = here("audit", "none.pt", "--data", tmp_path / "data", "--limit", 2, "--sample", "--out", tmp_path / "run")
    assert "none.pt, which does not exist" in done.stderr
