"""An audit whose network does what switches say, to be disturbed while others compute it; and what is known of them."""

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

import torch

from commands import ROOT, WIDE
from robusteval import Run, open_checkpoint, read_images, run_audit
from robusteval.auditing.engines import Engine
from robusteval.core.user_code import load_file

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
        while (SWITCHES / "stuck").exists() and noisy:
            (SWITCHES / f"stuck in {os.getpid()}").touch()
            time.sleep(0.05)
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

    def command(self, name: str, *more: object) -> subprocess.Popen[str]:
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
        words += ["--protocol", self.folder / "p.toml", "--out", self.folder / name, *more]
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


def bench_in(folder: Path, demo: Path, engine: Engine, told: list[str]) -> Bench:
    """An audit of the demo's standard network, in one thread."""
    torch.set_num_threads(1)
    (folder / "p.toml").write_text(PROTOCOL)
    (folder / "network.py").write_text(NETWORK)
    # Run by this process for another model, and removed since: no concern of the workers.
    (folder / "gone.py").write_text("")
    load_file(folder / "gone.py")
    (folder / "gone.py").unlink()
    return Bench(folder, demo / "digits-standard.safetensors", engine, told)


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
