"""robusteval plan, and the line before an audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import here
from robusteval.cli.forecasting import shortened

MODEL = Path(__file__).parents[2] / "robusteval" / "demo" / "digits-standard.safetensors"
WORDS = (MODEL, "--arch", "digits-cnn", "--data", "digits", "--limit", 4, "--batch-size", 4)


def protocol(folder: Path) -> Path:
    file = folder / "small.toml"
    methods = '[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n[[certificates]]\nmethod = "ibp"\nnorm = "linf"\n'
    file.write_text(f'name = "small"\n[budgets]\nlinf = [0.1]\n{methods}')
    return file


def test_a_plan_is_a_table_and_writes_nothing(tmp_path: Path) -> None:
    file = protocol(tmp_path)
    done = here("plan", *WORDS, "--protocol", file)
    assert done.returncode == 0, done.stderr
    first, _, *rows = done.stdout.splitlines()
    assert first.startswith("plan: digits-standard: 5 stages on 4 images, 88 forward and 20 backward passes, about ")
    assert first.endswith(", besides 1 stage that nobody can tell beforehand")
    told = {row.split()[0]: row.split()[1:3] for row in rows[:5]}
    assert told["fgsm-linf"] == ["4", "4"]
    assert told["ibp-linf"] == ["-", "-"]
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_a_plan_for_programs(tmp_path: Path) -> None:
    done = here("plan", *WORDS, "--protocol", protocol(tmp_path), "--json")
    (found,) = json.loads(done.stdout)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["fgsm-linf"]["passes"] == {"forward": 4, "backward": 4}
    assert stages["ibp-linf"]["passes"] is None
    assert stages["ibp-linf"]["seconds"] is None
    assert found["unknown"] == ["ibp-linf"]
    assert found["seconds"] > 0


def test_an_audit_says_first_what_it_will_run(tmp_path: Path) -> None:
    done = here("audit", *WORDS, "--protocol", protocol(tmp_path), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    first, *stages = done.stderr.splitlines()
    assert first.startswith("plan: digits-standard: 5 stages on 4 images")
    assert [line.split("]")[0] for line in stages[:5]] == [f"[{i}/5" for i in range(1, 6)]


def test_a_mistake_of_a_plan_is_one_line(tmp_path: Path) -> None:
    done = here("plan", *WORDS[:-1], 0)
    assert done.returncode == 2
    assert done.stderr == "error: expected --batch-size auto or a whole number from 1 to 1,048,576, got 0\n"


@pytest.mark.parametrize(
    ("passes", "said"), [(0, "0"), (950, "950"), (12345, "12,300"), (999_600, "1 million"), (4.561e6, "4.56 million")]
)
def test_passes_are_said_to_three_digits(passes: float, said: str) -> None:
    assert shortened(passes) == said
