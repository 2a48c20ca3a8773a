"""Arrays of images and labels under the names that people give them: npz, pairs of npy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images
from robusteval.data.pairs import pair_of

RNG = np.random.default_rng(1)
X = RNG.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
Y = np.array([2, 0, 1, 1])
OTHER = RNG.integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(X.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["x", "y"], None, ("x", "y")),
        (["labels", "images"], None, ("images", "labels")),
        (["data", "targets"], None, ("data", "targets")),
        (["X", "Y"], None, ("X", "Y")),
        (["arr_0", "arr_1"], None, ("arr_0", "arr_1")),
        (["x_train", "y_train", "x_test", "y_test"], None, ("x_test", "y_test")),
        (["x_train", "y_train", "x_test", "y_test"], "train", ("x_train", "y_train")),
        (["Xtr", "x_test", "y_test"], None, ("x_test", "y_test")),
        (["xtrain", "ytrain"], None, ("xtrain", "ytrain")),
        (["train_images", "train_labels", "val_images", "val_labels"], "validation", ("val_images", "val_labels")),
        (["train_images", "train_labels", "test_images", "test_labels"], None, ("test_images", "test_labels")),
        (["images", "labels", "x_train", "y_train"], None, ("images", "labels")),
    ],
)
def test_the_usual_names(names: list[str], split: str | None, found: tuple[str, str]) -> None:
    assert pair_of(names, "f", Reading(split=split)) == found


@pytest.mark.parametrize(
    ("names", "reading", "said"),
    [
        (["a", "b"], Reading(), "got a, b; name them with --image-column and --label-column"),
        ([], Reading(), "got none"),
        (["x_train", "y_train", "x_val", "y_val"], Reading(), "train, validation, got none; name it with --split"),
        (["x_test", "y_test"], Reading(split="train"), "test, got --split train"),
        (["x", "y"], Reading(image_column="z"), "--image-column among the arrays of f (x, y), got 'z'"),
        (["x", "y"], Reading(image_column="x", split="test"), "got both"),
    ],
)
def test_names_that_do_not_say(names: list[str], reading: Reading, said: str) -> None:
    with pytest.raises(UserError) as raised:
        pair_of(names, "f", reading)
    assert said in str(raised.value)


def test_npz_of_splits_and_columns_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x_train=OTHER, y_train=Y[:3, None], x_test=X, y_test=Y[:, None], extra=np.zeros(2))
    images = read_images(str(path))
    assert torch.equal(images.pixels, PIXELS)
    assert images.labels.tolist() == Y.tolist()
    assert len(read_images(f"{path}:train")) == 3
    np.savez(path, pictures=X, kinds=Y, y=Y[:2])
    named = read_images(str(path), reading=Reading(image_column="pictures", label_column="kinds"))
    assert torch.equal(named.pixels, PIXELS)
    assert named.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [(X.astype(np.float32), 255), (X.astype(np.int64), 255), (X.astype(np.uint16) * 257, 65535), (X, 255)],
)
def test_a_scale_says_which_number_is_white(numbers: Any, scale: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=numbers, y=Y)
    found = read_images(str(tmp_path / "x.npz"), reading=Reading(scale=scale))
    torch.testing.assert_close(found.pixels, PIXELS, rtol=0, atol=1e-7)
    small = read_images(str(tmp_path / "x.npz"), reading=Reading(scale=scale, crop=2))
    torch.testing.assert_close(small.pixels, PIXELS[:, :, 2:4, 2:4], rtol=0, atol=1e-7)
    with pytest.raises(UserError, match=r"pixels in \[0, 1\]"):
        read_images(str(tmp_path / "x.npz"), reading=Reading(scale=scale / 2))


@pytest.mark.parametrize(
    ("highest", "hint"),
    [(255.0, "--scale 255, if it is that"), (40000.0, "--scale 65535, if it is that"), (1e6, "--scale NUMBER")],
)
def test_floats_beyond_one_are_refused_with_the_scale_that_they_seem_to_have(
    highest: float, hint: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((1, 1, 2, 2), highest), y=[0])
    with pytest.raises(UserError) as raised:
        read_images(str(tmp_path / "x.npz"))
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("x.npy", "y.npy"),
        ("x_test.npy", "y_test.npy"),
        ("Xtest.npy", "ytest.npy"),
        ("test_images.npy", "test_labels.npy"),
        ("gaussian_noise.npy", "labels.npy"),
        ("mine.npy", "mine_labels.npy"),
        ("data.npy", "targets.npy"),
    ],
)
def test_a_pair_of_npy(images: str, labels: str, tmp_path: Path) -> None:
    np.save(tmp_path / images, X)
    np.save(tmp_path / labels, Y)
    found = read_images(str(tmp_path / images), 3)
    assert torch.equal(found.pixels, PIXELS[:3])
    assert found.labels.tolist() == Y[:3].tolist()


def test_labels_of_an_npy_are_named_or_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(UserError, match=r"labels of .*a.npy beside it, .*; name the file with --label-column"):
        read_images(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", Y)
    found = read_images(str(tmp_path / "a.npy"), reading=Reading(label_column="b.npy"))
    assert found.labels.tolist() == Y.tolist()
    np.save(tmp_path / "labels.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match=r"npy file of plain numbers in .*labels.npy"):
        read_images(str(tmp_path / "a.npy"))


def test_arrays_through_the_command_line(tmp_path: Path, demo_folder: Path) -> None:
    digits = read_images("digits", 5)
    np.save(tmp_path / "images.npy", digits.pixels.numpy()[:, 0] * 16)
    np.save(tmp_path / "labels.npy", digits.labels.numpy()[:, None])
    (tmp_path / "p.toml").write_text('[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    asked = ["audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn"]
    asked += ["--data", tmp_path / "images.npy", "--protocol", tmp_path / "p.toml", "--out", tmp_path / "run"]
    refused = here(*asked)
    assert refused.returncode == 2
    assert "--scale" in refused.stderr
    done = here(*asked, "--scale", 16)
    assert done.returncode == 0, done.stderr
    assert here("verify", tmp_path / "run", "--data", tmp_path / "images.npy").returncode == 0


def test_labels_of_text_are_counted_as_the_classes_of_a_folder(tmp_path: Path) -> None:
    x = np.zeros((4, 1, 4, 4), np.uint8)
    for labels in (np.array(["owl", "cat", "owl", "bee"]), np.array([["owl"], ["cat"], ["owl"], ["bee"]])):
        np.savez(tmp_path / "x.npz", images=x, labels=labels)
        found = read_images(str(tmp_path / "x.npz"))
        assert found.class_names == ("bee", "cat", "owl")
        assert found.labels.tolist() == [2, 1, 2, 0]
        assert read_images(str(tmp_path / "x.npz"), 1).labels.tolist() == [2]
    for wrong, said in ((["a", "1"] * 2, "got '1'"), (["a", ""] * 2, "all names"), (["3"] * 4, "got <U1")):
        np.savez(tmp_path / "x.npz", images=x, labels=np.array(wrong))
        with pytest.raises(UserError, match=said):
            read_images(str(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("labels", "step"),
    [
        (np.eye(3, dtype=np.int64), "labels.argmax(1)"),
        (np.array([0, 1]), "give one label for each image"),
        (np.array([0.5, 1, 2]), "give the index of each image's class"),
        (np.array(["a", "b", "c"], dtype=object), "array.astype(str)"),
    ],
)
def test_labels_that_cannot_be_read_say_the_next_step(tmp_path: Path, labels: NDArray[Any], step: str) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((3, 4, 4), np.uint8), labels=labels)
    with pytest.raises(UserError) as error:
        read_images(str(tmp_path / "data.npz"))
    assert step in str(error.value)


def test_flat_images_say_the_next_step(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((3, 16), np.uint8), labels=np.arange(3))
    with pytest.raises(UserError, match=r"images\.reshape\(N, C, H, W\)"):
        read_images(str(tmp_path / "data.npz"))
