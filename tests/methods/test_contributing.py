"""The example of CONTRIBUTING.md, as it stands there: checked by mypy, audited, reported, verified."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands import ROOT, here, in_a_process


def example(language: str) -> str:
    """The first block of that language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    """The user's folder after an audit: my_attack.py, mine.toml, runs/mine."""
    path = tmp_path_factory.mktemp("contributing")
    (path / "my_attack.py").write_text(example("python"))
    (path / "mine.toml").write_text(example("toml"))
    model, run = str(demo_folder / "digits-standard.safetensors"), ("--out", "runs/mine", "--limit", "20")
    asked = ("--arch", "digits-cnn", "--data", "digits", "--protocol", "mine.toml", *run)
    done = in_a_process("audit", model, *asked, folder=path)
    assert done.returncode == 0, done.stderr
    return path


def test_the_protocol_names_the_file() -> None:
    assert 'method = "my_attack.py:Grey"' in example("toml")


@pytest.mark.slow
def test_it_is_typed(tmp_path: Path) -> None:
    path = tmp_path / "my_attack.py"
    path.write_text(example("python"))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--strict", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_breaks_images(folder: Path) -> None:
    from robusteval.results.run import Run

    table = Run.open(folder / "runs" / "mine").table("witnesses")
    assert set(table["method"]) == {"grey-l2"}
    assert set(table["budget"]) == {1.0, 4.0}
    assert table["success"].any()


def test_the_report_shows_its_title(folder: Path) -> None:
    run = folder / "runs" / "mine"
    assert "Fade to grey" in (run / "report.md").read_text()
    assert "Fade to grey" in (run / "report.html").read_text()


def test_verify_asks_for_trust(folder: Path) -> None:
    """The run lies where the file lies too, and names it; that is no permission."""
    done = here("verify", folder / "runs" / "mine")
    assert done.returncode == 3
    line = done.stderr.strip().splitlines()[0]
    assert "expected permission to run my_attack.py" in line
    assert "--trust my_attack.py" in line


def test_who_trusts_the_file_verifies_the_run(folder: Path) -> None:
    done = here("verify", folder / "runs" / "mine", "--trust", folder / "my_attack.py")
    assert done.returncode == 0, done.stderr
    assert "checked and hold" in done.stdout


def test_another_file_of_that_name_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "my_attack.py"
    other.write_text(example("python") + "\nopen('ran', 'w')\n")
    done = here("verify", folder / "runs" / "mine", "--trust", other)
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if "not checked:" in line]
    assert "expected my_attack.py as it was, sha256:" in line
    assert not (folder / "ran").exists()
    assert not Path("ran").exists()
