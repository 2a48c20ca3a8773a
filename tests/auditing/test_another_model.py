"""A run is continued and verified with the model that it was begun with: its weights and what computes with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import robusteval
from robusteval.core.errors import UserError
from robusteval.reports.leaderboard import leaderboard
from robusteval.results.run import Run

NETWORK = """
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x.flatten(1))

def build():
    return Net()

def other():
    return Net()
"""
EDITED = NETWORK.replace("self.layer(x", "-self.layer(x")


class Folder:
    """A folder with a network's file and weights, a protocol and runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        torch.manual_seed(0)
        (path / "few.toml").write_text('[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\nbudgets = [0.1]\n')
        save_file({f"layer.{k}": v for k, v in nn.Linear(4, 2).state_dict().items()}, path / "net.safetensors")
        self.data = (torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))

    def audit(self, network: str, out: str = "run", function: str = "build") -> Run:
        (self.path / "net.py").write_text(network)
        checkpoint, arch = self.path / "net.safetensors", f"{self.path / 'net.py'}:{function}"
        return robusteval.audit(
            checkpoint, self.data, str(self.path / "few.toml"), self.path / out, arch=arch, device="cpu"
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_run_is_not_continued_by_another_forward_of_the_same_weights(folder: Folder) -> None:
    run = folder.audit(NETWORK)
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"expected the model of the run .* got another .*weights are the same.*code"):
        folder.audit(EDITED)
    assert (run.path / "manifest.json").read_bytes() == before
    assert folder.audit(NETWORK).manifest.complete, "the file as it was"
    commented = NETWORK.replace("    def forward", "    # What it does.\n    def forward")
    assert folder.audit(commented).manifest.complete


def test_nor_by_another_function_or_other_weights(folder: Folder) -> None:
    folder.audit(NETWORK)
    with pytest.raises(
        UserError, match=r"expected the architecture of the run .*net\.py:build.* got another .*net\.py:othe"
    ):
        folder.audit(NETWORK, function="other")
    save_file({f"layer.{k}": v for k, v in nn.Linear(4, 2).state_dict().items()}, folder.path / "net.safetensors")
    with pytest.raises(UserError, match=r"expected the model of the run .* its weights or its normalisation differ"):
        folder.audit(NETWORK)


def test_verify_says_what_differs(folder: Folder) -> None:
    run = folder.audit(NETWORK)
    at = folder.path / "net.py"
    assert list(robusteval.verify(run, trusted=[at])) == []
    at.write_text(EDITED)
    (line,) = robusteval.verify(run, trusted=[at])
    assert "another fingerprint than the one audited: its weights are the same, what computes with them" in line


def test_a_run_of_a_version_with_fingerprints_of_weights_alone_says_so(folder: Folder) -> None:
    run = folder.audit(NETWORK)
    manifest = json.loads((run.path / "manifest.json").read_text())
    del manifest["model"]["weights"], manifest["model"]["feature_layer"]
    manifest["model"]["fingerprint"] = "0" * 64
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"fingerprints covered the weights alone, audit the model again; give another"):
        folder.audit(NETWORK)
    (line,) = robusteval.verify(Run.open(run.path), trusted=[folder.path / "net.py"])
    assert "fingerprints covered the weights alone" in line


def test_the_board_has_both_models_of_equal_weights(folder: Folder) -> None:
    runs = [folder.audit(NETWORK, "plain"), folder.audit(EDITED, "edited")]
    names = [entry.model for entry in leaderboard(runs).entries]
    assert len(set(names)) == 2, names
    assert len(leaderboard([runs[0], folder.audit(NETWORK, "again")]).entries) == 1


def test_the_manifest_names_the_layer_of_the_features(folder: Folder) -> None:
    assert folder.audit(NETWORK).manifest.model.feature_layer == "layer"
