"""A run is data: what its manifest names is opened, a Python file in it is run only for who trusts that file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import robusteval
from robusteval.core.errors import UserError
from robusteval.results.run import Run

NETWORK = """
import torch.nn as nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    torch.manual_seed(0)
    (tmp_path / "net.py").write_text(NETWORK)
    save_file(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "few.toml").write_text('[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\nbudgets = [0.1]\n')
    data = (torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))
    arch = f"{tmp_path / 'net.py'}:build"
    return robusteval.audit(
        tmp_path / "net.safetensors", data, str(tmp_path / "few.toml"), tmp_path / "run", arch=arch, device="cpu"
    )


def test_a_manifest_does_not_run_the_file_that_built_its_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{NETWORK}")
    with pytest.raises(UserError, match=r"expected permission to run .*net\.py for the network build.*--trust net\.py"):
        list(robusteval.verify(run))
    assert not (tmp_path / "ran").exists()


def test_who_trusts_the_file_verifies_wherever_it_lies_now(run: Run, tmp_path: Path) -> None:
    assert list(robusteval.verify(run, trusted=[tmp_path / "net.py"])) == []
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(tmp_path / "net.py", tmp_path / "elsewhere"))
    assert list(robusteval.verify(run, trusted=[moved])) == []
