"""Paths that no system takes, and folders whose files are links: one line, and nothing written elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commands import here
from robusteval.results.run import Run
from run_fixture import Fake, build_paper_run

TRAIN = ("--data", "digits:train", "--limit", 20, "--epochs", 1, "--arch", "digits-cnn", "--device", "cpu")
AUDIT = ("zoo:standard-digits", "--data", "digits", "--limit", 2, "--protocol")


def command(kind: str, folder: Path, out: str) -> list[object]:
    """A command that is given a path to write to, or to read."""
    (folder / "p.toml").write_text('name = "p"\n[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    commands: dict[str, list[object]] = {
        "audit": ["audit", *AUDIT, folder / "p.toml", "--out", out],
        "train": ["train", "standard", *TRAIN, "--out", f"{out}.safetensors"],
        "recipe": ["train", f"{out}.toml", *TRAIN, "--out", folder / "a.safetensors"],
        "leaderboard": ["leaderboard", folder / "run", "--out", out],
        "add": ["leaderboard", folder / "run", "--add", out, "--out", folder / "board"],
        "report": ["report", out],
        "check": ["verify", folder / "run", "--check", out],
    }
    return commands[kind]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_paper_run(
        tmp_path / "run",
        "mine",
        [True] * 4,
        [Fake("pgd-linf", "pgd", "linf", {"linf": [1.0] * 4, "l2": [4.0] * 4}, budgets=(0.1,))],
        budgets={"linf": [0.1]},
    )


@pytest.mark.parametrize("kind", ["audit", "train", "recipe", "leaderboard", "add", "report", "check"])
@pytest.mark.parametrize("path", ["long", "below a file", "circle"])
def test_a_path_that_no_system_takes_is_one_line(kind: str, path: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    out = {"long": "a" * 5000, "below a file": f"{tmp_path}/file/x", "circle": f"{tmp_path}/circle/x"}[path]
    done = here(*command(kind, tmp_path, out))
    (line,) = [text for text in done.stderr.splitlines() if text and "━" not in text]
    assert done.returncode == 2
    assert line.startswith("error: expected ")


def test_an_out_that_is_no_text_is_refused(tmp_path: Path) -> None:
    done = here(*command("audit", tmp_path, f"{tmp_path}/a\udcff"))
    line = f"error: expected --out with a name in UTF-8, got {tmp_path}/a\ufffd"
    assert (done.returncode, done.stderr.strip()) == (2, line)


def test_a_model_of_a_name_that_is_no_text_is_trained(tmp_path: Path) -> None:
    done = here(*command("train", tmp_path, f"{tmp_path}/a\udcff"))
    assert done.returncode == 0, done.stderr
    assert b'"name": "a\xef\xbf\xbd"' in (tmp_path / os.fsdecode(b"a\xff.json")).read_bytes()


@pytest.mark.parametrize("name", ["m.json", "m.md", "m.safetensors", "m.unfinished"])
def test_a_link_in_the_place_of_what_a_training_writes_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("elsewhere")
    here(*command("train", tmp_path, f"{tmp_path}/m"))
    assert not (tmp_path / "elsewhere").exists()


def test_an_unfinished_training_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.unfinished")
    done = here(*command("train", tmp_path, f"{tmp_path}/m"))
    assert done.returncode == 2
    assert "expected an unfinished training, got" in done.stderr
    assert "m.unfinished, which is a FIFO" in done.stderr


@pytest.mark.parametrize("name", ["figures", "robustbench", "leaderboard.html", "leaderboard.json", "leaderboard.csv"])
def test_a_link_in_the_folder_of_a_leaderboard_is_not_followed(name: str, run: Run, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / name).symlink_to(elsewhere if "." not in name else elsewhere / "file")
    done = here(*command("leaderboard", tmp_path, f"{tmp_path}/board"))
    assert done.returncode == (0 if "." in name else 2), done.stderr
    assert not list(elsewhere.iterdir())


def test_an_out_that_is_a_link_to_a_folder_is_that_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "board").symlink_to("there")
    assert here(*command("leaderboard", tmp_path, f"{tmp_path}/board")).returncode == 0
    assert (tmp_path / "there" / "leaderboard.html").is_file()
