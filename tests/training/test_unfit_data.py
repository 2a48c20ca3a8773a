"""Images, networks and places that do not fit: one line before anything is trained, and nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from commands import here
from robusteval.models.checkpoints import open_checkpoint
from trainings import rows_of_light, write_npz

NETWORKS = """
import torch
from torch import nn

SHARED = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

def standardised():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

def weightless():
    return nn.Sequential(nn.Flatten(), nn.AvgPool1d(4))

def precise():
    return dense().double()

def shared():
    return SHARED

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second.weight = self.first.weight
    def forward(self, x):
        return self.last(self.second(self.first(x.flatten(1)).relu()).relu())

class Fussy(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(16, 3)
    def forward(self, x):
        if self.training:
            raise RuntimeError("no\\ntraining")
        return self.last(x.flatten(1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, images = tmp_path_factory.mktemp("unfit"), rows_of_light()
    (folder / "nets.py").write_text(NETWORKS)
    write_npz(folder / "d.npz", images)
    write_npz(folder / "wide.npz", rows_of_light(shape=(1, 4, 5)))
    write_npz(folder / "shifted.npz", replace(images, labels=images.labels + 1))
    write_npz(folder / "negative.npz", replace(images, labels=images.labels - 1))
    return folder


def arguments(folder: Path, net: str, out: Path, *options: object) -> list[object]:
    given = {"--data": folder / "d.npz", "--arch": f"{folder / 'nets.py'}:{net}", "--out": out, "--epochs": 1}
    given |= dict(zip(options[::2], options[1::2], strict=True))  # type: ignore[arg-type]
    return ["train", "standard", *(part for pair in given.items() for part in pair)]


def mistaken(folder: Path, net: str, out: Path, *options: object) -> str:
    done = here(*arguments(folder, net, out, *options))
    assert done.returncode == 2, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert not list(out.parent.glob("m.*")) if out.parent.is_dir() else True
    return lines[0]


CASES = [
    ("dense", ["--data", "shifted.npz"], "expected labels from 0 to 2 for"),
    ("dense", ["--data", "negative.npz"], "got -1 for image row-000000"),
    ("dense", ["--data", "wide.npz"], "expected a network that takes images of shape 1x4x5, got an error from"),
    ("dense", ["--test", "wide.npz"], "expected --test images of shape 1x4x4, got 1x4x5 in"),
    ("dense", ["--test", "shifted.npz"], "got 1 to 3 in"),
    ("dense", ["--test", "gone.npz"], "gone.npz"),
    ("dense", ["--limit", 0], "expected --limit of at least 1, got 0"),
    ("dense", ["--device", "gpu9"], "expected --device auto, cpu or a GPU of this machine, got 'gpu9'"),
    ("weightless", [], "weights to train"),
    ("gone", [], "expected a function 'gone'"),
    ("precise", [], "expected a network that can be trained with batches of 48, got an error: "),
    ("Fussy", [], "expected a network that can be trained with batches of 48, got an error: no"),
    ("standardised", ["--limit", 1], "trained with batches of 1, got an error: Expected more than 1 value per channel"),
    ("standardised", ["--batch-size", 1], "trained with batches of 1, got an error: Expected more than 1 value"),
]


@pytest.mark.parametrize(("net", "options", "expected"), CASES)
def test_what_does_not_fit_is_one_line(
    net: str, options: list[object], expected: str, folder: Path, tmp_path: Path
) -> None:
    placed = [folder / str(o) if str(o).endswith(".npz") else o for o in options]
    assert expected in mistaken(folder, net, tmp_path / "m.safetensors", *placed)


def test_a_test_set_that_does_not_exist_is_named_with_its_option(folder: Path, tmp_path: Path) -> None:
    line = mistaken(folder, "dense", tmp_path / "m.safetensors", "--test", "digit")
    assert "for --test, got 'digit'" in line
    assert "did you mean 'digits'" in line


def test_places_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    cases = {
        tmp_path / "m.pt": "expected --out as a .safetensors file, got",
        tmp_path / "m": "expected --out as a .safetensors file, got",
        tmp_path / "folder.safetensors": "folder.safetensors, which is a folder",
        tmp_path / "file" / "m.safetensors": "expected --out in a folder that can be written, got",
    }
    for out, expected in cases.items():
        assert expected in mistaken(folder, "dense", out)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("dense", ["--limit", 1]),
        ("dense", ["--batch-size", 1]),
        ("dense", ["--batch-size", 10**30]),
        ("standardised", ["--batch-size", 47]),
        ("Tied", []),
        ("shared", []),
    ],
)
def test_what_looks_odd_but_fits_is_trained(net: str, options: list[object], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = here(*arguments(folder, net, out, *options))
    assert done.returncode == 0, done.stderr
    assert open_checkpoint(out, f"{folder / 'nets.py'}:{net}", input_shape=(1, 4, 4)).num_classes == 3
