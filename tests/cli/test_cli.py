"""The command line as a user meets it: real subprocesses, real files, one-line errors."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import here, in_a_process
from robusteval.results.records import CLEAN
from robusteval.results.run import Run


def mistake(*arguments: object) -> str:
    """The one line that a mistake gives, under the progress bars if they were begun; fails on anything else.

    In this process. One test below holds it against a process of its own.
    """
    done = here(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith(("[", "plan: "))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def standard(demo_folder: Path) -> Path:
    return demo_folder / "digits-standard.safetensors"


def audit_arguments(checkpoint: object, out: Path, **options: object) -> list[object]:
    given = {"arch": "digits-cnn", "data": "digits", "limit": 6, "out": out} | options
    flags = [part for key, value in given.items() if value is not None for part in (f"--{key}", value)]
    return ["audit", checkpoint, *flags]


@pytest.mark.parametrize("what", ["attacks", "certificates", "metrics", "architectures", "protocols", "data"])
def test_list(what: str) -> None:
    known = {
        "attacks": "pgd",
        "certificates": "smoothing",
        "metrics": "jacobian-spectrum",
        "architectures": "resnet18",
        "protocols": "standard-linf",
        "data": "digits",
    }
    done = here("list", what)
    assert done.returncode == 0, done.stderr
    assert known[what] in done.stdout


@pytest.fixture(scope="module")
def finished(standard: Path, protocol_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = in_a_process(*audit_arguments(standard, out, protocol=protocol_file))
    assert done.returncode == 0, done.stderr
    for phrase in ("Clean accuracy", "95 %", "report.html"):
        assert phrase.lower() in done.stdout.lower(), done.stdout
    return out


def test_an_audit_leaves_tables_reports_and_a_manifest(finished: Path) -> None:
    for name in ("report.html", "report.md", "tables/bounds.csv", "tables/bounds.parquet", "manifest.json"):
        assert (finished / name).stat().st_size > 0
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["command"][:2] == ["robusteval", "audit"]


def test_report_and_verify_work_on_a_finished_run(finished: Path) -> None:
    (finished / "report.html").unlink()
    assert here("report", finished).returncode == 0
    assert (finished / "report.html").exists()
    assert in_a_process("verify", finished).returncode == 0


def test_verify_fails_with_exit_code_1(finished: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(finished, tmp_path / "copy")
    path = next(copy.glob(f"witnesses/{CLEAN}/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    done = here("verify", copy)
    assert done.returncode == 1
    assert "was changed" in done.stderr


def test_a_run_of_another_model_is_refused(finished: Path, demo_folder: Path, protocol_file: Path) -> None:
    other = demo_folder / "digits-pgd-l2.safetensors"
    line = mistake(*audit_arguments(other, finished, protocol=protocol_file))
    assert "expected the model of the run" in line
    assert Run.open(finished).manifest.complete


def test_a_mistake_is_the_same_line_in_a_process_of_its_own(standard: Path, tmp_path: Path) -> None:
    arguments = audit_arguments(standard, tmp_path / "run", protocol="quik")
    done = in_a_process(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip() == mistake(*arguments)


def test_mistakes_in_the_arguments(standard: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cases = [
        (audit_arguments(tmp_path / "no.safetensors", out), "no.safetensors"),
        (audit_arguments(standard, out, arch="digits-cn"), "did you mean 'digits-cnn'"),
        (audit_arguments(standard, out, arch="lenet5"), "of another shape: conv1.bias (16,) for (6,)"),
        (audit_arguments(standard, out, arch="cnn7-cifar10", data="foolbox:cifar10"), "missing: conv3.bias"),
        (audit_arguments(standard, out, data="digit"), "did you mean 'digits'"),
        (audit_arguments(standard, out, data="foolbox:mnist"), "1x28x28"),
        (audit_arguments(standard, out, limit=0), "limit"),
        (audit_arguments(standard, out, protocol="quik"), "did you mean 'quick'"),
        (audit_arguments(standard, out, dtype="float16"), "float16"),
        (audit_arguments(standard, out, device="gpu9"), "gpu9"),
        (audit_arguments(standard, out, mean="a"), "--mean"),
        (audit_arguments(standard, out, **{"batch-size": "many"}), "--batch-size"),
        (["verify", tmp_path / "nothing"], "manifest.json"),
        (["report", tmp_path / "nothing"], "manifest.json"),
    ]
    for arguments, word in cases:
        line = mistake(*arguments)
        assert word in line, line
    assert not out.exists()


def test_mistakes_in_the_files(standard: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"weight": Evil()}))
    weights = load_file(standard)
    first = next(iter(weights))
    save_file(
        {k: v for k, v in weights.items() if k != first} | {"extra": torch.ones(1)}, tmp_path / "keys.safetensors"
    )
    save_file({**weights, first: weights[first] * torch.nan}, tmp_path / "nan.safetensors")
    x, y = np.full((3, 1, 8, 8), 0.5, np.float32), np.arange(3)
    np.savez(tmp_path / "bright.npz", x=x * 5, y=y)
    np.savez(tmp_path / "labels.npz", x=x, y=y + 100)
    cases = [
        (audit_arguments(tmp_path / "evil.pt", out), "evil.pt"),
        (audit_arguments(tmp_path / "keys.safetensors", out), first),
        (audit_arguments(tmp_path / "nan.safetensors", out), "finite"),
        (audit_arguments(standard, out, data=tmp_path / "bright.npz"), "[0, 1]"),
        (audit_arguments(standard, out, data=tmp_path / "labels.npz"), "100"),
    ]
    for arguments, word in cases:
        line = mistake(*arguments)
        assert word in line, line
    assert not (tmp_path / "owned").exists()


def test_infinite_logits_stop_the_audit_and_keep_what_was_computed(
    standard: Path, protocol_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = torch.nn.Linear(64, 10)\n"
        "    def forward(self, x):\n"
        "        return self.last(x.flatten(1)) / (x.amax((1, 2, 3)) < 1).float()[:, None]\n"
        "def build():\n"
        "    return Net()\n"
    )
    save_file({"last.weight": torch.ones(10, 64), "last.bias": torch.zeros(10)}, tmp_path / "net.safetensors")
    pixels = np.full((8, 1, 8, 8), 0.5, np.float32)
    pixels[6] = 1.0
    np.savez(tmp_path / "data.npz", x=pixels, y=np.zeros(8, int))
    options = {"arch": f"{tmp_path / 'net.py'}:build", "data": tmp_path / "data.npz", "limit": None}
    line = mistake(
        *audit_arguments(
            tmp_path / "net.safetensors", tmp_path / "run", protocol=protocol_file, **options, **{"batch-size": 2}
        )
    )
    assert "finite logits" in line
    assert len(list((tmp_path / "run" / "parts" / CLEAN).glob("*.parquet"))) == 3


CTRL_C = """
import os, signal
from pathlib import Path
from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.core.norms import Norm

class CtrlC(FixedBudgetAttack):
    name = "ctrl-c"
    title = "Ctrl-C"
    summary = "Ctrl-C at its second shard, once"
    norms = (Norm.LINF,)

    def within(self, classifier, images, budget, streams):
        calls = Path(FOLDER) / "calls"
        with calls.open("a") as file:
            file.write(".")
        if calls.stat().st_size == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return Candidates(images.pixels)
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_the_same_command_continues(standard: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "ctrl_c.py").write_text(CTRL_C.replace("FOLDER", repr(str(tmp_path))))
    (tmp_path / "p.toml").write_text(
        '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "ctrl_c.py:CtrlC"\nnorm = "linf"\n'
    )
    arguments = audit_arguments(standard, out, limit=6, protocol=tmp_path / "p.toml", **{"batch-size": 2})
    command = [sys.executable, "-m", "robusteval", *map(str, arguments)]
    # A job in the background of a shell ignores Ctrl-C, and so would whatever the tests start.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=listening)
    assert done.returncode == 130, done.stderr
    assert "the same command continues it" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((out / "manifest.json").read_text())["status"] == "incomplete"
    before = {p: p.stat().st_mtime_ns for p in out.glob("parts/*/*.parquet")}
    assert sum("ctrl-c" in str(p.parent) for p in before) == 1
    assert here(*arguments).returncode == 0
    assert json.loads((out / "manifest.json").read_text())["status"] == "complete"
    assert all(p.stat().st_mtime_ns == at for p, at in before.items()), "finished parts were computed again"
    # Three shards and the one that was stopped; those that the first process left are computed twice here, at most two.
    assert 4 <= len((tmp_path / "calls").read_text()) <= 6
