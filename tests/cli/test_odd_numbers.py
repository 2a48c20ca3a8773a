"""Numbers on the command line that mean nothing: one line that names the option, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import here

PROTOCOL = '[budgets]\nlinf = [{budget}]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'

LONG = "1" + 5000 * "0"
VALUES = {
    "--mean": ["nan", "inf", "1e400", "1e39", "1_0", "\u0663", "0/0", "", "0.5,", "0.1,0.2"],
    "--std": ["nan", "inf", "0", "-1", "1e-60", "1e999999999"],
    "--device": ["meta", "mps", "cuda:99", ""],
    "--batch-size": ["99999999999999999999", "1048577", "0", "-1", "1.5", "many", "1_0", "\u0663", LONG],
    "--limit": ["0", "-5", "1.5", "1_0", "\u0663", str(10**30), LONG],
    "--seed": ["-1", str(2**63), LONG, "nan", "1_0"],
    "--dtype": ["float16"],
}
CASES = [(option, value) for option, values in VALUES.items() for value in values]


def audited(demo_folder: Path, out: Path, *options: object) -> str:
    """What is said of an audit that is refused."""
    model = demo_folder / "digits-standard.safetensors"
    given = ["--data", "digits", "--limit", 2, "--arch", "digits-cnn", "--out", out]
    done = here("audit", model, *given, *options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert not out.exists()
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.mark.parametrize(("option", "value"), CASES, ids=lambda word: word[:20])
def test_numbers_that_mean_nothing(option: str, value: str, demo_folder: Path, tmp_path: Path) -> None:
    said = audited(demo_folder, tmp_path / "run", option, value)
    assert "expected " in said
    assert option in said


@pytest.mark.parametrize(
    "budget",
    ['"1e400"', '"1e999999999"', "inf", "nan", '"nan"', "-1", '"0/0"', '"1/0"', '"8_0/255"', "true", "0", "[]"],
)
def test_budgets_that_mean_nothing(budget: str, demo_folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "p.toml"
    protocol.write_text(PROTOCOL.format(budget=budget))
    said = audited(demo_folder, tmp_path / "run", "--protocol", protocol)
    assert "p.toml" in said
    assert said.startswith("error: expected ")


def test_a_whole_number_too_long_to_read_in_a_file(demo_folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "p.toml"
    protocol.write_text(PROTOCOL.format(budget=5000 * "9"))
    assert "p.toml" in audited(demo_folder, tmp_path / "run", "--protocol", protocol)


@pytest.mark.parametrize("sigma", ["inf", "nan", '"1e400"', "true", "-1"])
def test_settings_that_mean_nothing(sigma: str, demo_folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "p.toml"
    protocol.write_text(f'[[certificates]]\nmethod = "smoothing"\nsigma = {sigma}\n')
    said = audited(demo_folder, tmp_path / "run", "--protocol", protocol)
    assert said.startswith("error: p.toml, certificate 'smoothing': expected ")
    assert "'sigma'" in said
