"""docs/training.md as a newcomer follows it: its files and its commands, on a folder of images, at a smaller size."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import ROOT, here, in_a_process

CLASSES = ("daisy", "iris", "rose", "tulip", "violet")
SMALLER = {"--limit 200": "--limit 6 --protocol small.toml"}
PROTOCOL = '[budgets]\nlinf = ["4/255"]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    text = (ROOT / "docs" / "training.md").read_text()
    return [found[1] for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def commands() -> list[list[str]]:
    """What is typed, without the program's name."""
    lines = [line.removeprefix("$ robusteval ") for block in blocks("console") for line in block.splitlines()]
    for long, short in SMALLER.items():
        lines = [line.replace(long, short) for line in lines]
    return [shlex.split(line) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newcomer's folder after all commands of the page, the first in a process of its own, with one epoch for each
    training."""
    path, draw = tmp_path_factory.mktemp("newcomer"), np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3)):
        for i, name in enumerate(CLASSES):
            (path / "flowers" / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = draw.integers(0, 90, (16, 16, 3), dtype=np.uint8)
                pixels[3 * i : 3 * i + 3] += 150
                Image.fromarray(pixels).save(path / "flowers" / part / name / f"{k:04d}.png")
    (path / "net.py").write_text(next(block for block in blocks("python") if "# net.py" in block))
    (path / "small.toml").write_text(PROTOCOL)
    typed = [[*line, *(["--epochs", "1"] if line[0] == "train" else [])] for line in commands()]
    done = in_a_process(*typed[0], folder=path)
    assert done.returncode == 0, (typed[0], done.stderr)
    with contextlib.chdir(path):
        for line in typed[1:]:
            done = here(*line)
            assert done.returncode == 0, (line, done.stderr)
    return path


@pytest.mark.slow
def test_three_models_are_trained_audited_and_compared(folder: Path) -> None:
    board = (folder / "runs" / "board" / "leaderboard.md").read_text()
    for name, training in (("standard", "Standard training"), ("at", "PGD training"), ("gradreg", "Gradient")):
        assert (folder / f"{name}.json").exists()
        assert (folder / "runs" / "flowers" / name / "report.html").exists()
        assert training in board


@pytest.mark.slow
def test_its_recipe_trains_as_well(folder: Path) -> None:
    (folder / "at.toml").write_text(next(block for block in blocks("toml") if "# at.toml" in block))
    asked = ("--data", "flowers/train", "--arch", "net.py:build", "--out", "recipe.safetensors")
    with contextlib.chdir(folder):
        done = here("train", "at.toml", *asked, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert '"learning_rate": 0.05' in (folder / "recipe.json").read_text()
