"""robusteval train as a process that is killed, or stopped by Ctrl-C: the same command continues it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from commands import ROOT, WIDE, here

DATA = ["--data", "digits:train", "--limit", 200, "--arch", "digits-cnn", "--batch-size", 50, "--device", "cpu"]
SGD = ["--optimizer", "sgd", "--nesterov", "--schedule", "cosine", "--learning-rate", 0.02]
PLATEAU = ["--schedule", "plateau", "--validation", 0.2, "--patience", 0, "--factor", 0.5, "--learning-rate", 0.01]
COMMANDS: dict[str, list[object]] = {
    "sgr": ["sgr"],
    "free-training": ["free-training", "--budget", 0.05, "--replays", 3],
    "global-spectral-norm": ["global-spectral-norm"],
    "nesterov and cosine": ["standard", *SGD],
    "plateau and validation": ["standard", *PLATEAU],
}
EPOCHS = 25


def ended(arguments: list[object], folder: Path, by: signal.Signals) -> tuple[int, str]:
    """Start a command, end it by a signal when its first epoch is saved; its exit status and what it said."""
    command = [sys.executable, "-m", "robusteval", *map(str, arguments)]
    # A job in the background of a shell ignores Ctrl-C, and so would whatever the tests start.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    environment = os.environ | WIDE | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "m.unfinished").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(by)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


def epochs_saved(path: Path) -> int:
    return len(torch.load(path, weights_only=True)["history"])


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_training_that_was_ended_is_continued_to_the_same_file(command: list[object], tmp_path: Path) -> None:
    arguments = ["train", *command, *DATA, "--epochs", EPOCHS]
    stopped, whole = tmp_path / "m.safetensors", tmp_path / "whole.safetensors"
    by = signal.SIGINT if command == ["standard", *SGD] else signal.SIGKILL
    status, said = ended([*arguments, "--out", stopped], tmp_path, by)
    assert status == (130 if by == signal.SIGINT else -signal.SIGKILL), said
    assert ("Stopped. What was computed is kept; the same command continues it." in said) == (by == signal.SIGINT)
    assert "Traceback" not in said
    assert 1 <= epochs_saved(tmp_path / "m.unfinished") < EPOCHS
    assert not stopped.exists()
    for out in (stopped, whole):
        assert here(*arguments, "--out", out).returncode == 0
    assert stopped.read_bytes() == whole.read_bytes()
    assert {path.stem for path in tmp_path.iterdir()} == {"m", "whole"}
    assert not list(tmp_path.glob("*.unfinished*"))
