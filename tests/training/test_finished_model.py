"""A model that is finished: the same command leaves it as it is, another one does not overwrite it."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import here

ARGUMENTS = ["train", "standard", "--data", "digits:train", "--limit", 60, "--arch", "digits-cnn", "--epochs", 1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    out = tmp_path / "new" / "m.safetensors"
    done = here(*ARGUMENTS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"Model: {out}" in done.stdout
    return out


def standing(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("other", ["config.json", "config.md"])
def test_a_file_of_the_user_beside_it_is_not_overwritten(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_text("mine")
    asked = ("--data", "digits:train", "--limit", "20", "--arch", "digits-cnn", "--epochs", "1")
    done = here("train", "standard", *asked, "--out", tmp_path / "config.safetensors")
    assert done.returncode == 2
    assert other in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [other]
    assert (tmp_path / other).read_text() == "mine"


def test_the_same_command_says_that_it_is_there_and_changes_nothing(model: Path) -> None:
    before = standing(model.parent)
    assert before.keys() == {"m.safetensors", "m.json", "m.md"}
    done = here(*ARGUMENTS, "--out", model)
    assert done.returncode == 0
    assert f"Trained already: {model}" in done.stdout
    assert "Accuracy: " in done.stdout
    assert standing(model.parent) == before


@pytest.mark.parametrize(
    "other",
    [["--epochs", 2], ["--limit", 59], ["--seed", 1], ["--arch", "lenet5"], ["--crop", 1]],
    ids=["epochs", "data", "seed", "network", "augmentation"],
)
def test_another_command_does_not_overwrite_it(other: list[object], model: Path) -> None:
    before = standing(model.parent)
    done = here(*ARGUMENTS, *other, "--out", model)
    assert done.returncode == 2
    assert f"expected --out as a new file, got {model}, which holds another model" in done.stderr
    assert standing(model.parent) == before


def test_weights_without_a_card_are_not_overwritten(model: Path) -> None:
    model.with_suffix(".json").unlink()
    before = standing(model.parent)
    done = here(*ARGUMENTS, "--out", model)
    assert done.returncode == 2
    assert "which holds another model" in done.stderr
    assert standing(model.parent) == before


def test_a_kill_at_the_very_end_is_tidied_up_by_the_same_command(model: Path) -> None:
    before = standing(model.parent)
    model.with_suffix(".unfinished").write_bytes(b"all epochs")
    assert here(*ARGUMENTS, "--out", model).returncode == 0
    assert standing(model.parent) == before


def test_a_kill_between_the_card_and_the_weights_is_continued(model: Path) -> None:
    """The weights are renamed into place last: without them, the card alone does not stand in the way."""
    before = model.read_bytes()
    model.unlink()
    assert here(*ARGUMENTS, "--out", model).returncode == 0
    assert model.read_bytes() == before
