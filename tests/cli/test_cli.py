"""The command line as a user meets it: real subprocesses, real files, one-line errors."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from robusteval.cli.app import app
from robusteval.results.manifest import CLEAN
from robusteval.results.run import Run


def robusteval(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "robusteval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def mistake(*arguments: object) -> str:
    """The one line that a mistake gives, under the progress bar if one was begun; fails on anything else.

    In this process: a subprocess spends four seconds on its imports. One test below holds the two against each other.
    """
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("clean ")]
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
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["list", what])
    assert done.exit_code == 0, done.stderr
    assert known[what] in done.stdout


@pytest.fixture(scope="module")
def finished(standard: Path, protocol_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = robusteval(*audit_arguments(standard, out, protocol=protocol_file), COLUMNS="100")
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
    assert robusteval("report", finished).returncode == 0
    assert (finished / "report.html").exists()
    assert robusteval("verify", finished).returncode == 0


def test_verify_fails_with_exit_code_1(finished: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(finished, tmp_path / "copy")
    path = next(copy.glob(f"witnesses/{CLEAN}/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    done = robusteval("verify", copy)
    assert done.returncode == 1
    assert "was changed" in done.stderr


def test_a_run_of_another_model_is_refused(finished: Path, demo_folder: Path, protocol_file: Path) -> None:
    other = demo_folder / "digits-pgd-l2.safetensors"
    line = mistake(*audit_arguments(other, finished, protocol=protocol_file))
    assert "expected the model of the run" in line
    assert Run.open(finished).manifest.complete


def test_a_mistake_is_the_same_line_in_a_process_of_its_own(standard: Path, tmp_path: Path) -> None:
    arguments = audit_arguments(standard, tmp_path / "run", protocol="quik")
    done = robusteval(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip() == mistake(*arguments)


def test_mistakes_in_the_arguments(standard: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cases = [
        (audit_arguments(tmp_path / "no.safetensors", out), "no.safetensors"),
        (audit_arguments(standard, out, arch="digits-cn"), "did you mean 'digits-cnn'"),
        (audit_arguments(standard, out, arch="lenet"), "of another shape: conv1.bias (16,) for (6,)"),
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


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_the_same_command_continues(
    standard: Path, protocol_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = {"limit": 12, "batch-size": 2, "protocol": protocol_file}
    command = [sys.executable, "-m", "robusteval", *map(str, audit_arguments(standard, out, **options))]
    # A job in the background of a shell ignores Ctrl-C, and so would whatever the tests start.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("parts/pgd-*/*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues it" in errors
    assert "Traceback" not in errors
    assert json.loads((out / "manifest.json").read_text())["status"] == "incomplete"
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert json.loads((out / "manifest.json").read_text())["status"] == "complete"
