"""Tensors that torch.save wrote as data: pairs and dicts; nothing else, and nothing that runs code."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images

X = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([2, 0, 1, 1])


@pytest.mark.parametrize(
    "held",
    [
        (X, Y),
        [X / 255, Y],
        (X.permute(0, 2, 3, 1).contiguous(), Y[:, None]),
        {"images": X, "labels": Y.to(torch.uint8)},
        {"x": X.double() / 255, "y": Y, "epoch": 3},
        {"data": X, "targets": Y.tolist()},
        {"images": X.numpy(), "labels": Y.numpy()},
        (X.numpy() / 255, Y),
        {"x": X, "y": Y, "kept": numpy.float64(1), "by": Path("a"), "of": {1, 2}},
        {"x_train": X[:2], "y_train": Y[:2], "x_test": X, "y_test": Y},
    ],
)
def test_tensors_are_read(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "data.pt")
    found = read_images(str(tmp_path / "data.pt"))
    torch.testing.assert_close(found.pixels, X.float() / 255)
    assert found.labels.tolist() == Y.tolist()
    assert torch.equal(read_images(str(tmp_path / "data.pt"), 2).pixels, found.pixels[:2])


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_older_layout_of_torch_is_read(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    torch.save({"x": X, "y": Y}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read_images(str(path)).pixels, X.float() / 255)


def test_half_precision_and_a_size(tmp_path: Path) -> None:
    torch.save({"a": (X / 255).bfloat16(), "b": Y}, tmp_path / "data.pth")
    asked = Reading(image_column="a", label_column="b", resize=3)
    assert read_images(str(tmp_path / "data.pth"), reading=asked).shape == (3, 3, 3)


class _Calls:
    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (X, "expected images and labels in"),
        ((X, Y, Y), "got 3 parts"),
        ((X, 3), "expected a tensor labels"),
        ({"weight": X, "bias": Y}, "got weight, bias; name them with --image-column"),
        ({"x": X, "y": _Calls()}, "would have to run code"),
        (TensorDataset(X, Y), "would have to run code"),
        (nn.Linear(1, 1), "would have to run code"),
        (torch.nn.functional.relu, "torch.nn.functional.relu"),
        ((X.to_sparse(), Y), "expected a dense tensor images"),
        ((torch.zeros(2, 1, 4, 4, dtype=torch.complex64), Y[:2]), "got complex64"),
        ((X, Y.float()), "got float32"),
        ((X.int(), Y), "--scale NUMBER says which number is white"),
        ((torch.zeros(1, 1, 1, 1).expand(2**15, 1, 2**10, 2**10), Y), "at most 1,073,741,824 numbers"),
    ],
)
def test_other_files_of_torch_are_refused(held: Any, said: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "data.pt")
    with pytest.raises(UserError) as raised:
        read_images(str(tmp_path / "data.pt"))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (Path.cwd() / "canary").exists()


def test_files_that_torch_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(
        UserError, match=r"a file of torch.save .* got text; save them with torch.save\(\(images, labels\), FILE\)"
    ):
        read_images(str(path))
    torch.save((X, Y), path)
    whole = path.read_bytes()
    for size in (100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"data\.pt"):
            read_images(str(path))
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path)
    with pytest.raises(UserError, match="got a TorchScript program"):
        read_images(str(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**22))
    with pytest.raises(UserError, match=r"at most .* bytes that its zip unpacks to"):
        read_images(str(path))


def test_tensors_through_the_command_line(tmp_path: Path) -> None:
    torch.save((X, Y), tmp_path / "data.pt")
    done = here("audit", "none.pt", "--data", tmp_path / "data.pt", "--crop", 4, "--out", tmp_path / "run")
    assert "none.pt, which does not exist" in done.stderr
    split = here("audit", "none.pt", "--data", f"{tmp_path / 'data.pt'}:train", "--out", tmp_path / "run")
    assert "a pair of tensors without names" in split.stderr
