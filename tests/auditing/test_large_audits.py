"""What an audit holds in memory does not grow with the images, but for their names and labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

AUDIT = """
import resource, sys
import torch
import robusteval as rv
from robusteval.core import stored

stored.IN_MEMORY = 0
torch.set_num_threads(1)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
if __name__ == "__main__":
    data, protocol, out = sys.argv[1:]
    rv.audit(network, data, protocol, out, device="cpu", batch_size=1000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
PROTOCOL = """
[budgets]
linf = [0.03]
[[attacks]]
method = "fgsm"
norm = "linf"
"""
FEW, MANY = 30_000, 120_000
EACH = 450
"""Bytes an image: a name, in the places where it is held, a label, and where it lies take about 200; the rest is what
the system's allocator keeps for itself."""


def peak(folder: Path, count: int) -> int:
    """Of an audit of so many images, in a process of its own."""
    folder.mkdir()
    pixels = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 1, 8, 8))
    pixels[:] = np.arange(64, dtype=np.uint8).reshape(8, 8)
    pixels.flush()
    np.save(folder / "y.npy", np.arange(count) % 10)
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
    (folder / "a.py").write_text(AUDIT, encoding="utf-8", newline="\n")
    asked = [sys.executable, folder / "a.py", folder / "x.npy", folder / "p.toml", folder / "run"]
    done = subprocess.run(list(map(str, asked)), capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak is told by resource, of POSIX")
def test_memory_grows_by_names_and_labels_alone(tmp_path: Path) -> None:
    few, many = peak(tmp_path / "few", FEW), peak(tmp_path / "many", MANY)
    print(f"{(many - few) / (MANY - FEW):.0f} bytes an image")
    assert many - few < EACH * (MANY - FEW)
