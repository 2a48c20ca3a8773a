"""An unfinished training that another command meets: refused in one line, and left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import here
from robusteval.data import read_images
from robusteval.defenses.standard import Standard
from robusteval.training.loop import Tick
from robusteval.training.make import make_model
from robusteval.training.recipe import Recipe
from robusteval.training.settings import TrainingSettings
from trainings import StoppedError

NETWORK = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"


def stop(tick: Tick) -> None:
    if tick.epoch == 2:
        raise StoppedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NETWORK)
    recipe, images = Recipe.of(Standard(), TrainingSettings(epochs=2)), read_images("digits:train", 60)
    with pytest.raises(StoppedError):
        make_model(recipe, f"{tmp_path / 'net.py'}:build", images, tmp_path / "m.safetensors", tell=stop)
    return tmp_path


def run(folder: Path, defense: str, *more: object) -> list[str]:
    """What it says of a mistake; nothing where there is none."""
    network = ["--arch", f"{folder / 'net.py'}:build", "--out", folder / "m.safetensors"]
    done = here("train", defense, "--data", "digits:train", "--limit", 60, *network, "--epochs", 2, *more)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == (2 if lines else 0)
    return lines


OTHERS: dict[str, list[object]] = {
    "other settings": ["standard", "--epochs", 3],
    "another seed": ["standard", "--seed", 1],
    "another defense": ["weight-decay"],
    "other data": ["standard", "--limit", 59],
    "another network": ["standard", "--arch", "digits-cnn"],
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_it_is_refused_and_the_unfinished_training_stays(other: list[object], folder: Path) -> None:
    before = (folder / "m.unfinished").read_bytes()
    (line,) = run(folder, str(other[0]), *other[1:])
    assert f"expected the command that left {folder / 'm.unfinished'}, got other settings, data or another" in line
    assert line.endswith("remove it to begin anew")
    assert (folder / "m.unfinished").read_bytes() == before
    assert not (folder / "m.safetensors").exists()


def test_so_is_the_same_command_where_the_file_of_the_network_has_changed(folder: Path) -> None:
    (folder / "net.py").write_text(NETWORK.replace("nn.Linear(64, 10)", "nn.Linear(64, 16), nn.Linear(16, 10)"))
    (line,) = run(folder, "standard")
    assert "expected the command that left" in line


def test_the_same_command_from_python_and_from_the_command_line_continue_each_other(folder: Path) -> None:
    assert run(folder, "standard") == []
    assert (folder / "m.safetensors").exists()
    assert not (folder / "m.unfinished").exists()


def test_a_broken_file_is_one_line_that_says_to_remove_it(folder: Path) -> None:
    (folder / "m.unfinished").write_bytes(b"\x80garbage" * 50)
    (line,) = run(folder, "standard")
    assert f"in {folder / 'm.unfinished'}, got something else; remove it to begin anew" in line
