"""A sample is drawn before anything is decoded: the same images as of the whole set, and the others are not touched."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from robusteval.core.errors import UserError
from robusteval.data import read_images

COUNT = 9
IMAGES = np.random.default_rng(8).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
Build = Callable[[Path, list[bytes]], Path]


def pngs() -> list[bytes]:
    found = []
    for image in IMAGES:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def folder(root: Path, encoded: list[bytes]) -> Path:
    for i, content in enumerate(encoded):
        (root / str(i % 3)).mkdir(parents=True, exist_ok=True)
        (root / str(i % 3) / f"{i}.png").write_bytes(content)
    return root


def table(root: Path, encoded: list[bytes]) -> Path:
    root.mkdir()
    cells = pa.array([{"bytes": content} for content in encoded], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": cells, "label": list(range(COUNT))}), root / "x.parquet", row_group_size=2)
    return root / "x.parquet"


def shards(root: Path, encoded: list[bytes]) -> Path:
    root.mkdir()
    cells = pa.array([{"bytes": content} for content in encoded], pa.struct([("bytes", pa.binary())]))
    whole = pa.table({"image": cells, "label": list(range(COUNT))})
    for i, (start, length) in enumerate(((0, 1), (1, 5), (6, 3))):
        part = whole.slice(start, length)
        with pa.ipc.new_stream(str(root / f"data-0000{i}-of-00003.arrow"), part.schema) as writer:
            writer.write_table(part, max_chunksize=2)
    return root


def tars(root: Path, encoded: list[bytes]) -> Path:
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"test-{shard}.tar", "w") as archive:
            for i in range(shard * 5, min(COUNT, shard * 5 + 5)):
                for name, content in ((f"{i}.png", encoded[i]), (f"{i}.cls", str(i).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return root


def listed(root: Path, encoded: list[bytes]) -> Path:
    folder(root, encoded)
    rows = [f"{i % 3}/{i}.png,{i}" for i in range(COUNT)]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    return root / "list.csv"


ENCODED: dict[str, Build] = {"folder": folder, "parquet": table, "arrow": shards, "tar": tars, "csv": listed}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ENCODED)
def test_only_what_is_drawn_is_decoded(kind: str, seed: int, tmp_path: Path) -> None:
    good = read_images(str(ENCODED[kind](tmp_path / "good", pngs())))
    expected = good.sample(4, seed)
    kept = {int(row) for row in (good.pixels[:, None] == expected.pixels[None]).flatten(2).all(2).any(1).nonzero()}
    whole = {tuple(np.asarray(image).ravel()): i for i, image in enumerate(IMAGES)}
    places = {whole[tuple((good.pixels[i] * 255).round().byte().permute(1, 2, 0).numpy().ravel())] for i in kept}
    broken = [content if i in places else b"none" for i, content in enumerate(pngs())]
    path = ENCODED[kind](tmp_path / "broken", broken)
    found = read_images(str(path), sample=4, seed=seed)
    assert found.ids == expected.ids
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)
    assert found.source == f"{path} (drawn at random, seed {seed})"
    with pytest.raises(UserError, match="expected an image in"):
        read_images(str(path))
    with pytest.raises(UserError, match=f"--sample from 1 to {COUNT}, the images of"):
        read_images(str(path), sample=COUNT + 1)


def test_arrays_batches_and_digits_are_drawn_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=IMAGES, y=np.arange(COUNT))
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", np.arange(COUNT))
    torch.save((torch.from_numpy(IMAGES), torch.arange(COUNT)), tmp_path / "x.pt")
    (tmp_path / "c").mkdir()
    rows = np.hstack([np.arange(COUNT, dtype=np.uint8)[:, None], IMAGES.transpose(0, 3, 1, 2).reshape(COUNT, -1)])
    (tmp_path / "c" / "test_batch.bin").write_bytes(rows.tobytes())
    (tmp_path / "i").mkdir()
    for name, array in (("images-idx3", IMAGES[..., 0]), ("labels-idx1", np.arange(COUNT, dtype=np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / "i" / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())
    specs = [*(str(tmp_path / name) for name in ("x.npz", "x.npy", "x.pt", "c", "i")), "digits", "foolbox:mnist"]
    for spec in specs:
        expected, found = read_images(spec).sample(5, 3), read_images(spec, sample=5, seed=3)
        assert (found.ids, found.source) == (expected.ids, expected.source)
        assert found.fingerprint() == expected.fingerprint(), spec
