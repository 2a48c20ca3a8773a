"""What is done once a run or once a stage, however many shards there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robusteval import audit
from robusteval.auditing import evidence, session
from robusteval.results import atomic, shards

PROTOCOL = """
[budgets]
linf = [0.02]
[[attacks]]
method = "fgsm"
norm = "linf"
[[certificates]]
method = "ibp"
norm = "linf"
[[certificates]]
method = "lipschitz"
norm = "l2"
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 1
"""
SHARDS = 12


def test_what_is_the_same_for_every_shard_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        own = getattr(module, name)

        def told(*args: Any, **kwargs: Any) -> Any:
            calls.update([name])
            return own(*args, **kwargs)

        monkeypatch.setattr(module, name, told)

    (tmp_path / "p.toml").write_text(PROTOCOL)
    counted(session, "write_tables")
    counted(session, "refuted")
    counted(evidence, "read_statistics")
    counted(shards, "planned_shards")
    counted(atomic, "_flush_folder")
    monkeypatch.setattr(session, "EVERY", 1e9)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    n = 2 * SHARDS
    run = audit(
        network,
        (torch.rand(n, 1, 4, 4), torch.arange(n) % 3),
        str(tmp_path / "p.toml"),
        tmp_path / "run",
        batch_size=2,
        device="cpu",
    )
    stages = len(run.manifest.stages)
    assert len(list((tmp_path / "run" / "parts" / "clean").iterdir())) == SHARDS
    assert run.manifest.complete
    assert calls["write_tables"] == 1
    assert calls["refuted"] == 2  # after each of the proofs
    assert calls["read_statistics"] == 3  # the model's traits, and what each of the proofs learnt
    # No shard goes through the names of all others.
    assert calls["planned_shards"] < 20 * stages
    # Two folders a stage, and beyond them the manifest and each table.
    assert calls["_flush_folder"] <= 2 * stages + stages + 20
