"""--resize and --crop: in the readers, of every kind of data; mixed sizes without them end in a line that says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import robusteval as rv
from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading, reading_of
from robusteval.data import read_images
from robusteval.data.sizes import sized

RNG = np.random.default_rng(5)


def folder_of(root: Path, *shapes: tuple[int, int]) -> Path:
    """An image folder with an image of each height and width, in two classes."""
    for i, shape in enumerate(shapes):
        path = root / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    return root / "data"


def test_the_shorter_side_is_resized_and_the_longer_one_rounded_down() -> None:
    image = RNG.integers(0, 256, (10, 17, 3), dtype=np.uint8)
    found = sized(image, Reading(resize=5), "x")
    assert found.shape == (5, 8, 3)
    assert np.array_equal(found, np.asarray(Image.fromarray(image).resize((8, 5), Image.Resampling.BILINEAR)))
    bicubic = sized(image.transpose(1, 0, 2), Reading(resize=5, interpolation="bicubic"), "x")
    expected = Image.fromarray(np.ascontiguousarray(image.transpose(1, 0, 2))).resize((5, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(bicubic, np.asarray(expected))
    assert sized(image, Reading(resize=10), "x") is image


@pytest.mark.parametrize("shape", [(10, 17, 3), (4, 6), (6, 4)])
def test_both_sides_are_resized_to(shape: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    found = sized(image, Reading(resize="4x6"), "x")
    assert np.array_equal(found, np.asarray(Image.fromarray(image).resize((6, 4), Image.Resampling.BILINEAR)))
    assert sized(found, Reading(resize="4x6"), "x") is found
    assert sized(image, Reading(resize="8x9", crop=3), "x").shape[:2] == (3, 3)


@pytest.mark.parametrize("asked", ["0x4", "4x", "x4", "4x4x4", "4X4", "-4x4", "4 x 4", "1" * 30, "a", "", 70_000, True])
def test_sizes_that_are_none(asked: object) -> None:
    with pytest.raises(UserError, match=r"expected 1 to 65536 pixels .* or HEIGHTxWIDTH, got .* for --resize"):
        reading_of(resize=asked)
    assert reading_of(resize="016").resize == 16
    assert reading_of(resize="16x032").resize == "16x32"


@pytest.mark.parametrize(
    ("height", "width", "side", "top", "left"), [(10, 10, 4, 3, 3), (5, 8, 4, 0, 2), (7, 9, 4, 2, 2), (4, 4, 4, 0, 0)]
)
def test_the_centre_is_cut_where_torchvision_cuts_it(height: int, width: int, side: int, top: int, left: int) -> None:
    """From round((H - side) / 2) on, a half rounded to the even number: (5 - 4) / 2 is 0, (7 - 4) / 2 is 2."""
    image = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    found = sized(image, Reading(crop=side), "x")
    assert np.array_equal(found, image[top : top + side, left : left + side])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_constant_image_stays_one_and_no_number_leaves_its_range(kind: Any) -> None:
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1.0}[kind]
    for interpolation in ("bilinear", "bicubic"):
        reading = reading_of(resize=7, interpolation=interpolation)
        constant = sized(np.full((11, 13), white, kind), reading, "x")
        assert constant.dtype == kind
        assert (constant == kind(white)).all()
        step: Any = np.where(np.arange(13) < 6, 0, white).astype(kind) * np.ones((11, 1), kind)
        found = sized(step, reading, "x")
        assert found.min() >= 0
        assert found.max() <= white
        assert found[:, 0].max() < found[:, -1].min()


def test_mixed_sizes_are_read_with_both_and_refused_with_the_step_without(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, (8, 12), (9, 8), (20, 31))
    images = read_images(str(folder), reading=Reading(resize=8, crop=6))
    assert images.shape == (3, 6, 6)
    assert images.reading == Reading(resize=8, crop=6)
    assert images.source == str(folder)
    for image_id, pixels in zip(images.ids, images.pixels, strict=True):
        found = sized(np.asarray(Image.open(folder / image_id)), Reading(resize=8, crop=6), "x")
        assert torch.equal(pixels, torch.from_numpy(found.transpose(2, 0, 1).astype(np.float32) / np.float32(255)))
    with pytest.raises(
        UserError, match=r"images of one size in .*, got \d+x\d+ in .* and \d+x\d+ in .*; --resize \d+ "
    ):
        read_images(str(folder))
    images = read_images(str(folder), reading=Reading(resize="8x6"))
    assert images.shape == (3, 8, 6)
    with pytest.raises(UserError, match=r"--crop 8 cuts their centres out"):
        read_images(str(folder), reading=Reading(resize=8))
    with pytest.raises(UserError, match=r"at least 9x9 pixels for --crop 9, got .*; --resize 9"):
        read_images(str(folder), reading=Reading(crop=9))


def test_every_kind_of_data_is_resized(tmp_path: Path) -> None:
    """Linear ramps, which a shrinking filter leaves linear in the middle: the same numbers in every format."""
    ramp = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8), (3, 16, 16))
    reading = Reading(resize=8, crop=4)
    np.savez(tmp_path / "bytes.npz", x=ramp, y=[0, 1, 2])
    np.savez(tmp_path / "floats.npz", x=ramp / 255, y=[0, 1, 2])
    (tmp_path / "f" / "0").mkdir(parents=True)
    Image.fromarray(ramp[0].copy()).save(tmp_path / "f" / "0" / "a.png")
    expected = torch.tensor([45.0, 65.0, 85.0, 105.0]) / 255
    for name in ("bytes.npz", "floats.npz", "f"):
        images = read_images(str(tmp_path / name), reading=reading)
        assert images.shape == (1, 4, 4)
        torch.testing.assert_close(images.pixels[0, 0], expected.expand(4, 4), rtol=0, atol=0.51 / 255)
    assert read_images("digits", 3, reading=Reading(resize=16)).shape == (1, 16, 16)
    assert read_images("foolbox:mnist", 2, reading=Reading(crop=8)).shape == (1, 8, 8)


@pytest.mark.parametrize(
    "given", [{"resize": 0}, {"crop": -1}, {"interpolation": "nearest"}, {"scale": 0}, {"split": ""}]
)
def test_what_no_reading_can_be_names_its_option(given: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(given))}"):
        reading_of(**given)
    with pytest.raises(ValidationError):
        Reading(**given)


def test_an_option_that_the_format_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"which is read as IMAGE_FOLDER, one of --crop, .* got --scale 255"):
        read_images(str(tmp_path), reading=Reading(scale=255))
    with pytest.raises(UserError, match="got --split train"):
        read_images("foolbox:mnist", reading=Reading(split="train"))


def test_a_huge_image_after_resizing_is_bounded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2, 20000), np.uint8), y=[0])
    with pytest.raises(UserError, match=r"at most 50,000,000 pixels in image 0 of .*, resized"):
        read_images(str(tmp_path / "x.npz"), reading=Reading(resize=1000))


SMALL = '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'


def test_the_command_line_resizes_and_verify_reads_the_same_images(tmp_path: Path, demo_folder: Path) -> None:
    for label in range(10):
        for i in range(2):
            path = tmp_path / "data" / "val" / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (18 + label, 20 + i), dtype=np.uint8)).save(path)
    (tmp_path / "p.toml").write_text(SMALL)
    model, out, data = demo_folder / "digits-standard.safetensors", tmp_path / "run", tmp_path / "data"
    asked = ["audit", model, "--arch", "digits-cnn", "--data", data, "--protocol", tmp_path / "p.toml", "--out", out]
    asked += ["--resize", "10x12", "--crop", 8, "--split", "validation", "--limit", 6, "--sample"]
    done = here(*asked)
    assert done.returncode == 0, done.stderr
    record = rv.Run.open(out).manifest.data
    assert record.reading == Reading(resize="10x12", crop=8, split="validation")
    assert (record.sample, record.limit, record.count) == (6, None, 6)
    found = here("verify", out, "--data", data)
    assert found.returncode == 0, found.stderr
    other = here("verify", out, "--data", f"{data}:train")
    assert other.returncode == 2
    assert "expected one split" in other.stderr


def test_training_reads_in_the_same_ways(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, (8, 12), (9, 8), (20, 31), (11, 9), (8, 8), (9, 9))
    done = here("train", "standard", "--data", folder, "--arch", "digits-cnn", "--out", tmp_path / "m.safetensors")
    assert done.returncode == 2
    assert re.search("--resize [89] --center-crop [89]", done.stderr), done.stderr
    done = here(
        *("train", "standard", "--data", folder, "--arch", "digits-cnn", "--out", tmp_path / "m.safetensors"),
        *("--resize", 8, "--center-crop", 8, "--epochs", 1),
    )
    assert "digits-cnn" in done.stderr or done.returncode == 0, done.stderr
