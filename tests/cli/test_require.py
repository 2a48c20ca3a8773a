"""--require: exit code 4 where a run does not reach what was asked for, before anything is computed where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

import odd_models
from commands import here

PROTOCOL = """
budgets = {linf = ["8/255", 0.5]}
attacks = [{method = "fgsm", norm = "linf"}]
certificates = [{method = "ibp", norm = "linf"}]
"""


@pytest.fixture
def options(tmp_path: Path, demo_folder: Path) -> tuple[object, ...]:
    (tmp_path / "p.toml").write_text(PROTOCOL)
    model = demo_folder / "digits-standard.safetensors"
    return (model, "--arch", "digits-cnn", "--data", "digits", "--limit", 8, "--protocol", tmp_path / "p.toml")


def test_a_gate_opens_and_closes(options: tuple[object, ...], tmp_path: Path) -> None:
    met = ("--require", "clean >= 80%", "--require", "linf 8/255 >= 0.1", "--require", "certified linf 8/255 >= 0%")
    done = here("audit", *options, "--out", tmp_path / "run", *met)
    assert done.returncode == 0, done.stderr
    done = here("audit", *options, "--out", tmp_path / "run", *met, "--require", "linf 0.5 >= 99%")
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if "required" in line]
    assert line.startswith("required of digits-standard: linf 0.5 >= 99%, got robust Linf 0.5: ")
    assert line.endswith("0 of 8 images (0.0 %)")
    done = here("certify", *options, "--out", tmp_path / "proofs", "--require", "certified linf 0.5 >= 50%")
    assert (done.returncode, "got certified Linf 0.5: 0 of 8 images (0.0 %)" in done.stderr) == (4, True), done.stderr
    done = here("certify", *options, "--out", tmp_path / "proofs", "--require", "linf 0.5 >= 0%")
    assert (done.returncode, "the run has no such number" in done.stderr) == (4, True), done.stderr


def test_no_gate_opens_on_attacks_that_the_model_makes_fail(options: tuple[object, ...], tmp_path: Path) -> None:
    model, _, _, *others = options
    arch = f"{odd_models.__file__}:jitter"
    done = here("audit", model, "--arch", arch, *others, "--out", tmp_path / "run", "--require", "linf 8/255 >= 0%")
    assert (done.returncode, "robust Linf 8/255: not to be relied on: " in done.stderr) == (4, True), done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linf 8/255 > 40%", "expected --require as"),
        ("robust", "expected --require as"),
        ("linf x >= 40%", "expected a finite number"),
        ("linf 0.1 >= 40%", "expected a budget of the protocol in --require (Linf 8/255, Linf 0.5), got 'linf 0.1"),
        ("certified l2 0.5 >= 1%", "expected a budget of the protocol"),
        ("clean >= 140%", "expected a share of 0 to 100%"),
        ("clean >= nan%", "expected a finite number"),
    ],
)
def test_what_no_run_can_answer_is_told_before_it_starts(
    options: tuple[object, ...], tmp_path: Path, text: str, said: str
) -> None:
    done = here("audit", *options, "--out", tmp_path / "run", "--require", text)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "run").exists()
