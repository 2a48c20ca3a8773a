"""Data sets: every format from real files; every mistake in one line."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data import DATASETS, read_images
from robusteval.models.architectures import build_network
from robusteval.models.making import make_classifier
from robusteval.models.plain import check_fit

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1, 0])


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def assert_images(images: Images, shown: np.ndarray) -> None:
    expected = shown[:, None] if shown.ndim == 3 else shown.transpose(0, 3, 1, 2)
    assert torch.equal(images.pixels, torch.from_numpy(expected.astype(np.float32) / 255))


def refused(spec: object, limit: int | None = None) -> str:
    with pytest.raises(UserError) as raised:
        read_images(str(spec), limit)
    message = str(raised.value)
    assert message.startswith("expected ")
    assert "\n" not in message
    return message


def test_digits_are_split_once() -> None:
    test, train = read_images("digits"), read_images("digits:train")
    assert (len(test), len(train), test.shape) == (500, 1297, (1, 8, 8))
    assert not set(test.ids) & set(train.ids)
    assert torch.equal(read_images("digits", 7).pixels, test.pixels[:7])
    assert test.labels.bincount().min() > 30


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cifar10", (3, 32, 32)),
        ("mnist", (1, 28, 28)),
        ("fashionMNIST", (1, 28, 28)),
        ("cifar100", (3, 32, 32)),
        ("imagenet", (3, 224, 224)),
    ],
)
def test_foolbox_samples(name: str, shape: tuple[int, int, int]) -> None:
    images = read_images(f"foolbox:{name}")
    assert (len(images), images.shape) == (20, shape)
    assert images.labels[0] == int(images.ids[0].rpartition("_")[2])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(suffix: str, tmp_path: Path) -> None:
    grey = IMAGES[..., 0]
    for split, n in (("t10k", 5), ("train", 3)):
        for kind, array in (("images-idx3", grey[:n]), ("labels-idx1", LABELS[:n].astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(s.to_bytes(4, "big") for s in array.shape)
            content = header + array.tobytes()
            (tmp_path / f"{split}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    images = read_images(str(tmp_path))
    assert_images(images, grey)
    assert images.labels.tolist() == LABELS.tolist()
    assert len(read_images(f"{tmp_path}:train")) == 3
    (tmp_path / f"t10k-images-idx3-ubyte{suffix}").write_bytes(gzip.compress(b"x") if suffix else b"x")
    assert "t10k-images" in refused(tmp_path)


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet(column: str, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    rows = [{"bytes": png(p), "path": None} for p in IMAGES]
    names = {"info": {"features": {"label": {"names": ["a", "b", "<c>"]}}}}
    table = pa.table({column: rows, "label": LABELS}).replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, path)
    images = read_images(str(path))
    assert_images(images, IMAGES)
    assert images.class_names == ("a", "b", "<c>")
    assert len(read_images(str(path), 2)) == 2
    pq.write_table(pa.table({"x": [1]}), path)
    assert "columns img (or image) and label" in refused(path)
    pq.write_table(pa.table({"img": [{"bytes": b"no image"}], "label": [0]}), path)
    assert "row 0" in refused(path)
    path.write_text("nothing")
    assert "parquet" in refused(path)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for x in (IMAGES, IMAGES.transpose(0, 3, 1, 2)):
        np.savez(path, x=x, y=LABELS)
        assert_images(read_images(str(path)), IMAGES)
    np.savez(path, x=IMAGES[..., 0] / 255, y=LABELS)
    torch.testing.assert_close(read_images(str(path)).pixels[:, 0], torch.from_numpy(IMAGES[..., 0] / 255).float())
    cases = [
        ({"x": IMAGES}, "arrays x and y"),
        ({"x": IMAGES, "y": LABELS[:2]}, "5 integer labels"),
        ({"x": IMAGES, "y": LABELS / 2}, "integer labels"),
        ({"x": IMAGES[0, 0], "y": LABELS}, "(N, C, H, W)"),
        ({"x": IMAGES / 100, "y": LABELS}, "pixels in [0, 1]"),
        ({"x": np.full((5, 1, 2, 2), np.nan), "y": LABELS}, "pixels in [0, 1]"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "at least one image"),
    ]
    for arrays, message in cases:
        np.savez(path, **arrays)  # type: ignore[arg-type]
        assert message in refused(path)
    path.write_bytes(b"PK nothing")
    assert ".npz" in refused(path)


def test_image_folder(tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        folder = tmp_path / "cab"[LABELS[i]]
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.png").write_bytes(png(image))
    images = read_images(str(tmp_path))
    assert images.class_names == ("a", "b", "c")
    for image_id, label, pixels in zip(images.ids, images.labels.tolist(), images.pixels, strict=True):
        assert images.class_names[label] == image_id.split("/")[0]
        expected = IMAGES[int(Path(image_id).stem)].transpose(2, 0, 1)
        assert torch.equal(pixels, torch.from_numpy(expected.astype(np.float32) / 255))
    assert read_images(str(tmp_path), 3).ids == images.ids[:3]
    (tmp_path / "a" / "big.png").write_bytes(png(np.zeros((9, 9, 3), np.uint8)))
    assert "one size" in refused(tmp_path)
    (tmp_path / "a" / "big.png").write_text("no image")
    assert "big.png" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "subfolder per class" in refused(tmp_path / "empty")


def test_unknown_data() -> None:
    assert "did you mean 'digits'" in refused("digit")
    assert "did you mean 'cifar10'" in refused("foolbox:cifar11")
    assert "--limit" in refused("digits", 0)
    assert all(d.summary for d in DATASETS.values())


def test_a_classifier_must_fit_its_images() -> None:
    model = make_classifier("m", build_network("digits-cnn"), (1, 8, 8))
    images = read_images("digits", 3)
    check_fit(model, images)
    wrong = Images(images.ids, images.pixels, torch.tensor([0, 10, 1]))
    with pytest.raises(UserError, match=rf"labels from 0 to 9 .* got 10 for image {images.ids[1]}"):
        check_fit(model, wrong)
    with pytest.raises(UserError, match="expected images of shape 1x8x8 for m, got 1x28x28"):
        check_fit(model, read_images("foolbox:mnist"))


def test_images_know_themselves_whatever_their_order() -> None:
    images = read_images("digits", 6)
    turned = images.select(torch.arange(5, -1, -1))
    assert turned.fingerprint() == images.fingerprint()
    assert turned.by_id().ids == images.by_id().ids == tuple(sorted(images.ids))
    changed = Images(images.ids, images.pixels * 0.999, images.labels)
    assert changed.fingerprint() != images.fingerprint()
    with pytest.raises(UserError, match="distinct image ids"):
        images.select(torch.tensor([0, 0])).checked()
