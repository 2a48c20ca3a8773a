"""Several processes share an audit: the same run to the last bit, whoever is killed, and the same errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from commands import ROOT, WIDE, here
from robusteval import Run, open_checkpoint, read_images, run_audit
from robusteval.auditing.engines import Engine, local
from robusteval.auditing.workers import working
from robusteval.core.errors import UserError
from robusteval.core.user_code import load_file
from robusteval.models.making import make_classifier
from same_runs import differences

PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "fgsm"
norm = "linf"
[[attacks]]
method = "pgd"
norm = "linf"
steps = 5
[[certificates]]
method = "l-bound"
norm = "l2"
batches = 5
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 4
[[metrics]]
method = "activation-maximization"
steps = 2
"""
NETWORK = """
import os
import time
from collections import OrderedDict
from pathlib import Path
from torch import nn
from robusteval.models.architectures.digits import digits_cnn

SWITCHES = Path(__file__).parent

class Network(nn.Sequential):
    def forward(self, x):
        noisy, attacked = (x < 0).any(), x.requires_grad
        if (SWITCHES / "slow").exists():
            time.sleep(0.1)
        if (SWITCHES / "die once").exists() and attacked:
            (SWITCHES / "die once").unlink(missing_ok=True)
            os.kill(os.getpid(), 9)
        if (SWITCHES / "die").exists() and noisy:
            os.kill(os.getpid(), 9)
        if (SWITCHES / "raise").exists() and noisy:
            raise ValueError("a pixel below zero")
        return super().forward(x)

def build():
    return Network(OrderedDict(digits_cnn(10, (1, 8, 8)).named_children()))
"""


@dataclass(frozen=True)
class Bench:
    """An audit in a folder, whose network does what switches (files of these names) say."""

    folder: Path
    weights: Path
    engine: Engine
    told: list[str]

    def audit(self, name: str, engine: Engine | None = None) -> Run:
        images = read_images("digits", 8)
        model = open_checkpoint(str(self.weights), f"{self.folder / 'network.py'}:build", input_shape=images.shape)
        self.told.clear()
        out = self.folder / name
        protocol = str(self.folder / "p.toml")
        engine = engine or self.engine
        return run_audit(model, images, protocol, out, batch_size=2, device="cpu", engine=engine, limit=8)

    def command(self, name: str) -> subprocess.Popen[str]:
        """The same audit by the command line, with two workers, in a session of its own as in a terminal."""
        words = [
            sys.executable,
            "-m",
            "robusteval",
            "audit",
            self.weights,
            "--arch",
            f"{self.folder / 'network.py'}:build",
        ]
        words += ["--data", "digits", "--limit", 8, "--batch-size", 2, "--device", "cpu", "--workers", 2]
        words += ["--protocol", self.folder / "p.toml", "--out", self.folder / name]
        environment = os.environ | WIDE | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*map(str, words)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
        )

    @contextmanager
    def switched(self, name: str) -> Iterator[None]:
        (self.folder / name).touch()
        try:
            yield
        finally:
            (self.folder / name).unlink(missing_ok=True)

    def parts(self, name: str) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (self.folder / name / "parts").rglob("*.parquet")}


@pytest.fixture(scope="module")
def bench(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("workers")
    (folder / "p.toml").write_text(PROTOCOL)
    (folder / "network.py").write_text(NETWORK)
    # Run by this process for another model, and removed since: no concern of the workers.
    (folder / "gone.py").write_text("")
    load_file(folder / "gone.py")
    (folder / "gone.py").unlink()
    told: list[str] = []
    with working(2, "cpu", told.append) as engine:
        yield Bench(folder, demo_folder / "digits-standard.safetensors", engine, told)


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Run:
    return bench.audit("alone", local)


def test_a_killed_worker_changes_nothing(bench: Bench, alone: Run) -> None:
    with bench.switched("die once"):
        run = bench.audit("killed")
    assert [line.split(",")[0] for line in bench.told] == ["a worker ended by signal 9 (SIGKILL)"]
    assert run.manifest.complete
    assert differences(alone, run, pages=False) == []


@pytest.mark.slow
def test_a_shard_that_kills_each_worker_fails_its_method(bench: Bench, alone: Run) -> None:
    with bench.switched("die"):
        run = bench.audit("deadly")
    failed = {s.name: s.reason for s in run.manifest.stages if s.status != "done"}
    assert [*failed] == ["gaussian-noise"]
    assert (
        "expected shard 00000 of gaussian-noise from a worker, got 3 that ended by signal 9" in failed["gaussian-noise"]
    )
    assert run.table("witnesses").equals(alone.table("witnesses"))


def test_an_error_reads_as_in_one_process(bench: Bench) -> None:
    with bench.switched("raise"):
        runs = [bench.audit("raises alone", local), bench.audit("raises")]
    one, other = ([(s.name, s.status, s.reason) for s in run.manifest.stages] for run in runs)
    assert one == other
    assert ("gaussian-noise", "failed") in [found[:2] for found in one]
    for run in runs:
        kept = (run.path / "failures" / "gaussian-noise.txt").read_text()
        assert kept.startswith("Traceback")
        assert kept.endswith("ValueError: a pixel below zero\n")


@pytest.mark.slow
def test_an_audit_that_is_killed_or_stopped_goes_on(bench: Bench, alone: Run) -> None:
    landed: dict[Path, int] = {}
    with bench.switched("slow"):
        for number in (signal.SIGKILL, signal.SIGINT):
            audit = bench.command("stopped")
            assert audit.stderr is not None
            enough = len(landed) + 2
            wait_for(lambda enough=enough: len(bench.parts("stopped")) >= enough)  # type: ignore[misc]
            workers = children(audit.pid)
            assert len(workers) >= 2
            # The terminal sends a Ctrl-C to all.
            (os.kill if number == signal.SIGKILL else os.killpg)(audit.pid, number)
            said = audit.stderr.read()
            assert audit.wait() == (130 if number == signal.SIGINT else -number)
            assert "Traceback" not in said
            assert ("Stopped. What was computed is kept" in said) == (number == signal.SIGINT)
            for worker in workers:
                wait_for(lambda worker=worker: not is_alive(worker))  # type: ignore[misc]
            assert landed.items() <= bench.parts("stopped").items()
            landed = bench.parts("stopped")
    run = bench.audit("stopped")
    assert landed.items() <= bench.parts("stopped").items()
    assert differences(alone, run, pages=False) == []


def test_what_cannot_be_sent_is_said(bench: Bench) -> None:
    class Local(nn.Linear):
        pass

    model = make_classifier("local", nn.Sequential(nn.Flatten(), Local(64, 10)), (1, 8, 8))
    with pytest.raises(UserError, match="expected what --workers can send to other processes, got the model local: "):
        run_audit(model, read_images("digits", 4), "quick", bench.folder / "local", device="cpu", engine=bench.engine)


@pytest.mark.parametrize("workers", ["0", "-1", "257"])
def test_numbers_of_workers(workers: str, demo_folder: Path, tmp_path: Path) -> None:
    words = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    done = here(*words, "--limit", 2, "--batch-size", 2, "--out", tmp_path / "run", "--workers", workers)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: expected --workers of at least 1 and at most 256, got {workers}" in done.stderr


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


def children(process: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
