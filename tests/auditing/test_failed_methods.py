"""A method that an error stops: recorded with its traceback, the others finish, and the same command tries it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import here
from robusteval import Run, verify
from robusteval.models.checkpoints import open_checkpoint

PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "fgsm"
norm = "linf"
[[attacks]]
method = "pgd"
norm = "linf"
steps = 3
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 4
"""
NETWORK = """
from collections import OrderedDict
from pathlib import Path
from torch import nn
from robusteval.models.architectures.digits import digits_cnn

SWITCH = Path({switch!r})

class Network(nn.Sequential):
    def forward(self, x):
        if SWITCH.exists() and (x < 0).any():
            raise ValueError("a pixel below zero")
        return super().forward(x)

def build():
    return Network(OrderedDict(digits_cnn(10, (1, 8, 8)).named_children()))
"""


@pytest.fixture
def command(demo_folder: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "small.toml").write_text(PROTOCOL)
    (tmp_path / "switch").touch()
    (tmp_path / "network.py").write_text(NETWORK.format(switch=str(tmp_path / "switch")))
    return [
        *("audit", demo_folder / "digits-standard.safetensors", "--arch", f"{tmp_path / 'network.py'}:build"),
        *("--data", "digits", "--limit", 8, "--batch-size", 8, "--protocol", tmp_path / "small.toml"),
        *("--out", tmp_path / "run"),
    ]


def test_the_others_finish_and_it_is_tried_again(command: list[object], demo_folder: Path, tmp_path: Path) -> None:
    done = here(*command)
    assert done.returncode == 3
    assert "Incomplete: methods stopped with an error" in " ".join(done.stderr.split())
    assert "ValueError: a pixel below zero" in " ".join(done.stdout.split())
    run = Run.open(tmp_path / "run")
    assert run.manifest.status == "incomplete"
    assert {s.name: s.status for s in run.manifest.stages if s.status != "done"} == {"gaussian-noise": "failed"}
    kept = (run.path / "failures" / "gaussian-noise.txt").read_text()
    assert kept.startswith("Traceback")
    assert "a pixel below zero" in kept
    assert "an error stopped 1 method" in (run.path / "report.md").read_text()
    model = open_checkpoint(
        demo_folder / "digits-standard.safetensors", f"{tmp_path / 'network.py'}:build", input_shape=(1, 8, 8)
    )
    assert list(verify(run, model)) == []
    before = run.part("pgd-linf", "00000").stat().st_mtime_ns
    (tmp_path / "switch").unlink()
    assert here(*command).returncode == 0
    run = Run.open(tmp_path / "run")
    assert run.manifest.complete
    assert not (run.path / "failures" / "gaussian-noise.txt").exists()
    assert run.part("pgd-linf", "00000").stat().st_mtime_ns == before, "what was there is kept"
