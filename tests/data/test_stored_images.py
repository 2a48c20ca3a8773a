"""Images that are too many for memory: every format gives the same ones, read in parts, and an audit the same run."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import robusteval as rv
from robusteval.core import stored
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.stored import StoredPixels
from robusteval.data import read_images
from same_runs import differences

N = 12


def drawn(kind: str = "uint8", channels: int = 3) -> np.ndarray:
    numbers = np.random.default_rng(0).integers(0, 256, (N, 8, 8, channels), dtype=np.uint8)
    return numbers if kind == "uint8" else (numbers / 255).astype(kind)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def folder(place: Path) -> Path:
    """Grey images among those with colours, which get three channels in whatever order they come."""
    for i, image in enumerate(drawn()):
        (place / f"class {i % 2}").mkdir(exist_ok=True, parents=True)
        (place / f"class {i % 2}" / f"{i}.png").write_bytes(png(image[..., :1] if i % 3 else image))
    return place


def arrays(place: Path, kind: str = "uint8", order: str = "C") -> Path:
    place.mkdir()
    np.save(place / "x.npy", np.asarray(drawn(kind), order=order))  # type: ignore[call-overload]
    np.save(place / "y.npy", np.arange(N) % 2)
    return place / "x.npy"


def npz(place: Path) -> Path:
    place.mkdir()
    np.savez_compressed(place / "d.npz", x=drawn("float64", 1).transpose(0, 3, 1, 2), y=np.arange(N) % 2)
    return place / "d.npz"


def parquet(place: Path) -> Path:
    place.mkdir()
    cells = pa.array([{"bytes": png(i)} for i in drawn()], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": cells, "label": pa.array([i % 2 for i in range(N)])}), place / "d.parquet")
    return place / "d.parquet"


def tar(place: Path) -> Path:
    place.mkdir()
    with tarfile.open(place / "d.tar", "w") as archive:
        for i, image in enumerate(drawn()):
            for suffix, content in (("png", png(image)), ("cls", str(i % 2).encode())):
                info = tarfile.TarInfo(f"{i}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return place / "d.tar"


def idx(place: Path) -> Path:
    place.mkdir()
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (N, 8, 8))
    (place / "t10k-images-idx3-ubyte").write_bytes(head + drawn(channels=1).tobytes())
    (place / "t10k-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1]) + N.to_bytes(4, "big") + bytes(i % 2 for i in range(N))
    )
    return place


FORMATS = {
    "folder": folder,
    "npy": arrays,
    "npy of floats": lambda place: arrays(place, "float32"),
    "npy by column": lambda place: arrays(place, order="F"),
    "npz": npz,
    "parquet": parquet,
    "tar": tar,
    "idx": idx,
}


PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 3
[[attacks]]
method = "polish"
norm = "l2"
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 20
[[certificates]]
method = "omega-bound"
norm = "l2"
batches = 5
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "noise"
sigmas = [0.2]
samples = 2
[[metrics]]
method = "kernels"
"""


def same(one: Images, other: Images) -> bool:
    return one.ids == other.ids and one.labels.equal(other.labels) and one.pixels.equal(other.pixels)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("how", ["all", "limit", "sample", "resized"])
def test_stored_images_are_those_in_memory(
    kind: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(FORMATS[kind](tmp_path / "data"))
    asked: dict[str, Any] = {"limit": {"limit": 7}, "sample": {"sample": 7}, "all": {}, "resized": {}}[how]
    reading = rv.Reading(resize=6, crop=5) if how == "resized" else rv.Reading()
    held = read_images(place, reading=reading, **asked)
    monkeypatch.setattr(stored, "IN_MEMORY", 200)
    images = read_images(place, reading=reading, **asked)
    assert isinstance(held.content, torch.Tensor)
    assert isinstance(images.content, StoredPixels)
    assert images.shape == held.shape
    assert same(images, held)
    assert images.fingerprint() == held.fingerprint()
    rows = torch.tensor([5, 0, 5, 1])
    assert same(images.select(rows), held.select(rows))
    assert same(images.by_id().first(3), held.by_id().first(3))
    assert same(images.select(torch.arange(len(held)).flip(0)).by_id(), held.by_id())
    assert list(images.by_id().ids) == sorted(held.ids)
    double = images.to("cpu", torch.float64)
    assert double.dtype == torch.float64
    assert same(double, held.to("cpu", torch.float64))
    blocks = list(images.blocks(5))
    assert [len(block) for block in blocks] == [5] * (len(held) // 5) + [len(held) % 5] * (len(held) % 5 > 0)
    assert torch.cat([block.pixels for block in blocks]).equal(held.pixels)


def test_an_audit_of_stored_images_is_that_of_images_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, protocol = str(arrays(tmp_path / "data")), str(tmp_path / "p.toml")
    Path(protocol).write_text(PROTOCOL, encoding="utf-8")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    one = rv.audit(network, place, protocol, tmp_path / "one", batch_size=5, device="cpu", limit=8)
    monkeypatch.setattr(stored, "IN_MEMORY", 200)
    assert isinstance(read_images(place).content, StoredPixels)
    other = rv.audit(network, place, protocol, tmp_path / "other", batch_size=5, device="cpu", limit=8)
    assert differences(one, other, pages=False) == []


def test_stored_floats_beyond_white_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", 200)
    np.save(tmp_path / "x.npy", 255 * drawn("float32"))
    np.save(tmp_path / "y.npy", np.zeros(N, int))
    with pytest.raises(UserError, match=r"expected pixels in \[0, 1\] in .*x.npy, got \[0, 255\]; divide by"):
        read_images(str(tmp_path / "x.npy"))


def test_a_file_that_is_not_whole_or_becomes_shorter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", 200)
    place = arrays(tmp_path / "data")
    images = read_images(str(place))
    content = place.read_bytes()
    place.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"expected 12 rows in .*x.npy, got fewer: it was changed"):
        _ = images.pixels
    with pytest.raises(UserError, match=r"expected 2,304 numbers in .*x.npy, got .* bytes: it is not whole"):
        read_images(str(place))


def test_no_room_for_decoded_images_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path / "data")
    monkeypatch.setattr(stored, "IN_MEMORY", 200)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(UserError, match="expected room for decoded images where temporary files lie, got: No such"):
        read_images(str(place))
