"""Odd data: what has one meaning is read as that; all else ends in one line that names the file, exit code 2."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from commands import here
from robusteval.core.errors import UserError
from robusteval.data import read_images
from robusteval.models.plain import as_images

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
"""(H, W): no side looks like another."""
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP[::-1]], axis=2)
GREY = np.stack([RAMP] * 3)
LABELS = np.array([0, 1, 2])
Build = Callable[[Path], object]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder_of(content: bytes, suffix: str = "png", name: str = "odd") -> Build:
    """A folder of one class with one image."""

    def build(root: Path) -> Path:
        (root / "data" / "0").mkdir(parents=True)
        (root / "data" / "0" / f"{name}.{suffix}").write_bytes(content)
        return root / "data"

    return build


def image_of(array: NDArray[Any], kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(array)
    return encoded(image.convert(mode) if mode else image, kind, **options)


def transparent(alpha: int) -> bytes:
    return image_of(np.dstack([COLOURS, np.full(RAMP.shape, alpha, np.uint8)]))


def palette(**options: Any) -> bytes:
    return encoded(Image.fromarray(COLOURS).quantize(64), **options)


def turned() -> bytes:
    """Stored on its side, with the orientation that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_90), exif=exif)


def film(kind: str) -> bytes:
    frames = [Image.fromarray(RAMP + i) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def npz(path: Path, x: Any, y: Any, **more: Any) -> Path:
    np.savez(path / "odd.npz", x=x, y=y, **more)
    return path / "odd.npz"


def npz_of(x: Any, y: Any = LABELS) -> Build:
    return lambda root: npz(root, x, y)


def npy_named_npz(root: Path) -> Path:
    with (root / "odd.npz").open("wb") as file:
        np.save(file, GREY)
    return root / "odd.npz"


def parquet_of(labels: Any, images: list[object] | None = None, names: object = None) -> Build:
    def build(root: Path) -> Path:
        cells = images or [{"bytes": image_of(RAMP)} for _ in range(len(labels))]
        table = pa.table({"img": cells, "label": labels})
        if names is not None:
            info = {"info": {"features": {"label": {"names": names}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / "odd.parquet")
        return root / "odd.parquet"

    return build


def idx_of(
    images: NDArray[Any] = GREY,
    labels: NDArray[Any] = LABELS,
    *,
    kind: int = 8,
    cut: int = 0,
    suffix: str = "",
    names: tuple[str, ...] = ("t10k",),
) -> Build:
    def build(root: Path) -> Path:
        for name in names:
            for part, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
                header = bytes([0, 0, kind, array.ndim]) + b"".join(s.to_bytes(4, "big") for s in array.shape)
                content = header + array.tobytes()
                content = gzip.compress(content)[: -cut or None] if suffix else content[: -cut or None]
                (root / f"{name}-{part}-ubyte{suffix}").write_bytes(content)
        return root

    return build


def nested_splits(root: Path) -> Path:
    for split in ("train", "test"):
        (root / split / "0").mkdir(parents=True)
        (root / split / "0" / "a.png").write_bytes(image_of(RAMP))
    return root


def empty_folder(root: Path) -> Path:
    (root / "odd.parquet").mkdir()
    return root / "odd.parquet"


def two_sizes(root: Path) -> Path:
    folder_of(image_of(RAMP))(root)
    (root / "data" / "0" / "wide.png").write_bytes(image_of(RAMP.T.copy()))
    return root / "data"


READ: dict[str, tuple[Build, NDArray[Any]]] = {
    "16-bit grey": (folder_of(image_of(RAMP.astype(np.uint16) * 257)), RAMP / 255),
    "16-bit grey, dark": (folder_of(image_of(RAMP.astype(np.uint16))), RAMP / 65535),
    "16-bit TIFF": (folder_of(image_of(RAMP.astype(np.uint16) * 257, "TIFF"), "tif"), RAMP / 255),
    "16-bit PGM": (
        folder_of(b"P5 6 4 65535\n" + (RAMP.astype(">u2") * 257).astype(">u2").tobytes(), "pgm"),
        RAMP / 255,
    ),
    "12-bit PGM": (folder_of(b"P5 6 4 4095\n" + np.full((4, 6), 4095, ">u2").tobytes(), "pgm"), np.ones((4, 6))),
    "one bit": (folder_of(encoded(Image.fromarray(RAMP > 99))), (RAMP > 99).astype(float)),
    "opaque alpha": (folder_of(transparent(255)), COLOURS / 255),
    "grey and opaque alpha": (folder_of(image_of(RAMP, mode="LA")), RAMP / 255),
    "opaque palette": (
        folder_of(palette()),
        np.asarray(Image.fromarray(COLOURS).quantize(64).convert("RGB")) / 255,
    ),
    "CMYK of grey": (
        folder_of(image_of(np.full((4, 6, 3), 255, np.uint8), "TIFF", "CMYK"), "tif"),
        np.ones((4, 6, 3)),
    ),
    "orientation": (folder_of(turned()), RAMP / 255),
    "one frame": (folder_of(encoded(Image.fromarray(RAMP), "GIF"), "gif"), np.stack([RAMP / 255] * 3, axis=2)),
    "big-endian floats": (npz_of((GREY / 255).astype(">f4")), RAMP / 255),
    "big-endian labels": (npz_of(GREY, LABELS.astype(">i8")), RAMP / 255),
    "half precision": (npz_of((GREY / 255).astype(np.float16)), (RAMP / 255).astype(np.float16)),
    "long doubles": (npz_of((GREY / 255).astype(np.longdouble)), RAMP / 255),
    "small labels": (npz_of(GREY, LABELS.astype(np.int8)), RAMP / 255),
    "Fortran order": (npz_of(np.asfortranarray(GREY)), RAMP / 255),
    "channels last": (npz_of(np.stack([COLOURS] * 3)), COLOURS / 255),
    "unsigned labels in parquet": (parquet_of(pa.array([0, 1], pa.uint8())), RAMP / 255),
    "plain bytes in parquet": (parquet_of([0], [image_of(RAMP)]), RAMP / 255),
    "packed and not": (lambda root: [idx_of(suffix=".gz")(root), idx_of()(root)][1], RAMP / 255),
}


@pytest.mark.parametrize("name", READ)
def test_what_has_one_meaning_is_read_as_that(name: str, tmp_path: Path) -> None:
    build, shown = READ[name]
    found = read_images(str(build(tmp_path)))
    expected = torch.from_numpy(shown.astype(np.float32))
    expected = expected[None] if expected.dim() == 2 else expected.permute(2, 0, 1)
    assert found.pixels.dtype == torch.float32
    torch.testing.assert_close(found.pixels[0], expected, rtol=0, atol=1e-6)
    assert found.labels.tolist() == list(range(len(found)))


def test_a_grey_image_among_coloured_ones_has_three_equal_channels(tmp_path: Path) -> None:
    folder_of(image_of(RAMP))(tmp_path)
    (tmp_path / "data" / "0" / "colour.png").write_bytes(image_of(COLOURS))
    found = read_images(str(tmp_path / "data"))
    grey = found.pixels[found.ids.index("0/odd.png")]
    assert found.shape == (3, 4, 6)
    for channel in grey:
        torch.testing.assert_close(channel, torch.from_numpy(RAMP / 255).float())


WIDE = np.zeros((2, 3, 8, 3))
REFUSED: dict[str, tuple[Build, str]] = {
    # Images
    "32-bit whole numbers": (folder_of(image_of(RAMP.astype(np.int32) * 999, "TIFF"), "tif"), "32-bit whole numbers"),
    "floating-point image": (folder_of(image_of(RAMP.astype(np.float32), "TIFF"), "tif"), "floating-point numbers"),
    "transparent": (folder_of(transparent(254)), "got transparent pixels"),
    "transparent palette": (folder_of(palette(transparency=0)), "got transparent pixels"),
    "transparent grey": (folder_of(encoded(Image.fromarray(RAMP), transparency=0)), "got transparent pixels"),
    "animated GIF": (folder_of(film("GIF"), "gif"), "got several frames"),
    "animated PNG": (folder_of(film("PNG")), "got several frames"),
    "pages": (folder_of(film("TIFF"), "tiff"), "got several frames"),
    "cut": (folder_of(image_of(COLOURS)[:60]), "expected an image in"),
    "empty file": (folder_of(b""), "expected an image in"),
    "text": (folder_of(b"no image"), "expected an image in"),
    "broken header": (folder_of(b"\x89PNG\r\n\x1a\n" + bytes(40)), "expected an image in"),
    "two sizes": (two_sizes, "expected images of one size"),
    "splits for classes": (nested_splits, "got test, train: name one of them"),
    # npz: images
    ".npy named .npz": (npy_named_npz, "got a single array"),
    "0-dimensional": (npz_of(np.float32(0.5)), "(N, C, H, W)"),
    "0-dimensional both": (npz_of(np.uint8(5), np.int64(0)), "(N, C, H, W)"),
    "flat": (npz_of(np.zeros((3, 24)), LABELS), "(N, C, H, W)"),
    "five dimensions": (npz_of(np.zeros((3, 1, 1, 4, 6)), LABELS), "(N, C, H, W)"),
    "objects": (npz_of(np.array([[1], "a", None], dtype=object)), "plain arrays"),
    "text for images": (npz_of(np.array(["a", "b", "c"])), "of uint8, or of floating point"),
    "complex": (npz_of(GREY.astype(np.complex64)), "got complex64"),
    "whole numbers of unknown scale": (npz_of(GREY.astype(np.int64)), "got int64"),
    "16 bits of unknown scale": (npz_of(GREY.astype(np.uint16)), "got uint16"),
    "truth values": (npz_of(GREY > 99), "got bool"),
    "0 to 255": (npz_of(GREY.astype(np.float32)), "got [0, 230]; divide"),
    "negative": (npz_of(GREY / 255 - 0.5), "put it into --mean and --std; from -1 to 1: (x + 1) / 2"),
    "NaN": (npz_of(np.full((3, 1, 4, 6), np.nan)), "got [nan, nan]"),
    "infinite": (npz_of(np.full((3, 1, 4, 6), np.inf)), "got [inf, inf]"),
    "beyond float32": (npz_of(np.full((3, 1, 4, 6), 1e300)), "got [inf, inf]"),
    "two readings": (npz_of(WIDE, LABELS[:2]), "can be read both ways"),
    "two readings of grey": (npz_of(np.zeros((2, 1, 8, 1)), LABELS[:2]), "can be read both ways"),
    "no images": (npz_of(np.zeros((0, 1, 4, 6)), LABELS[:0]), "at least one image"),
    "no pixels": (npz_of(np.zeros((3, 1, 0, 6)), LABELS), "expected images with pixels"),
    "no channels": (npz_of(np.zeros((3, 0, 4, 6)), LABELS), "expected images with pixels"),
    "more labels than --limit would see": (npz_of(GREY, np.arange(5)), "expected 3 integer labels"),
    # npz: labels
    "halves": (npz_of(GREY, np.array([0, 2.5, 1])), "integer labels in"),
    "whole floats": (npz_of(GREY, LABELS.astype(float)), "got float64"),
    "true and false": (npz_of(GREY, LABELS > 0), "got bool"),
    "text labels": (npz_of(GREY, np.array(["0", "3", "1"])), "got <U1"),
    "NaN labels": (npz_of(GREY, np.array([0, np.nan, 1])), "got float64"),
    "one hot": (npz_of(GREY, np.eye(3, dtype=int)), "of shape (3, 3)"),
    "one label": (npz_of(GREY, np.int64(1)), "of shape ()"),
    "beyond 64 bits": (npz_of(GREY, np.array([0, 1, 2**64 - 1], np.uint64)), "got 18446744073709551615"),
    "negative labels": (npz_of(GREY, np.array([0, -1, 1])), "got -1 for image row-000001"),
    "dates": (npz_of(GREY, np.array(["2020-01-01"] * 3, "datetime64[D]")), "integer labels in"),
    # parquet
    "float column": (parquet_of([0.0, 2.5]), "got double"),
    "boolean column": (parquet_of([True, False]), "got bool"),
    "text column": (parquet_of(["3", "1"]), "got string"),
    "missing label": (parquet_of([0, None]), "got null in row 1"),
    "only missing labels": (parquet_of(pa.array([None, None])), "got null"),
    "lists of labels": (parquet_of([[0], [1]]), "got list"),
    "unsigned beyond 64 bits": (parquet_of(pa.array([2**64 - 1], pa.uint64())), "labels that 64 bits hold"),
    "hidden labels": (parquet_of([-1, -1]), "got -1 for image row-000000"),
    "fewer names than labels": (parquet_of([0, 7], names=["a", "b"]), "from 0 to 1, one of the classes of the data"),
    "missing image": (parquet_of([0, 1], [{"bytes": image_of(RAMP)}, None]), "row 1 of"),
    "missing bytes": (parquet_of([0], [{"bytes": None, "path": "x.png"}]), "row 0 of"),
    "numbers for images": (parquet_of([0, 1], [1, 2]), "row 0 of"),
    "no rows": (parquet_of(pa.array([], pa.int64()), None), "at least one image"),
    "a folder": (empty_folder, "odd.parquet"),
    # IDX
    "empty IDX": (idx_of(GREY[:0], LABELS[:0]), "expected at least one image, got 0x4x6"),
    "IDX without pixels": (idx_of(np.zeros((3, 0, 6), np.uint8)), "expected at least one image, got 3x0x6"),
    "IDX of 16 bits": (idx_of(GREY.astype(">i2"), kind=11), "got int16 in 3"),
    "IDX in colour": (idx_of(np.zeros((3, 4, 6, 3), np.uint8)), "got uint8 in 4"),
    "cut IDX": (idx_of(cut=1), "bytes after the header"),
    "cut gzip": (idx_of(cut=9, suffix=".gz"), "expected an IDX file in"),
    "fewer labels": (idx_of(labels=LABELS[:2]), "as many labels as images"),
    "two test sets": (idx_of(names=("letters-test", "digits-test")), "digits-test-images-idx3-ubyte, letters-test"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", REFUSED)
def test_all_else_is_one_line_on_the_command_line(name: str, tmp_path: Path) -> None:
    build, expected = REFUSED[name]
    (tmp_path / "odd").mkdir()
    data = build(tmp_path / "odd")
    done = here("audit", "zoo:standard-digits", "--data", data, "--limit", 3, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected ")
    assert ", got" in line
    assert " at 0x" not in line
    assert expected in line
    assert str(tmp_path / "odd") in line
    assert not (tmp_path / "run").exists()


TENSORS: dict[str, tuple[torch.Tensor, torch.Tensor, str]] = {
    "bytes": (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "floating-point pixels"),
    "complex": (torch.zeros(2, 1, 4, 4, dtype=torch.complex64), torch.tensor([0, 1]), "floating-point pixels"),
    "0-dimensional": (torch.tensor(0.5), torch.tensor(0), "(N, C, H, W)"),
    "one image": (torch.zeros(1, 4, 4), torch.tensor([0]), "(N, C, H, W)"),
    "half a label": (torch.zeros(2, 1, 4, 4), torch.tensor([0.0, 2.5]), "whole numbers"),
    "true": (torch.zeros(2, 1, 4, 4), torch.tensor([True, False]), "whole numbers"),
    "negative": (torch.zeros(2, 1, 4, 4), torch.tensor([0, -1]), "got -1 for image 000001"),
    "no images": (torch.zeros(0, 1, 4, 4), torch.tensor([], dtype=torch.int64), "at least one image"),
    "no pixels": (torch.zeros(2, 1, 0, 4), torch.tensor([0, 1]), "with pixels"),
    "one label": (torch.zeros(2, 1, 4, 4), torch.tensor(0), "2 labels"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_odd_tensors_are_refused_in_python_too(name: str) -> None:
    pixels, labels, expected = TENSORS[name]
    with pytest.raises(UserError) as raised:
        as_images(pixels, labels)
    assert expected in str(raised.value)
