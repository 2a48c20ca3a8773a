"""Forty kills and ten full disks: the audit, its report and its verification end as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from killed_audits import Counts, until
from killing import full_after, full_at, killed_after, killed_at, undisturbed
from robusteval import Run
from robusteval.results.files import read_arrays, write_arrays, write_frame
from same_runs import differences
from small_audits import BUDGETS, FGSM, NOISE, REPORT, SMOOTHING, VERIFY, Case, Whole, whole

KILLS, DISKS = 40, 10


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    torch.set_num_threads(1)
    return whole(Case("small", BUDGETS + FGSM + SMOOTHING + NOISE), tmp_path_factory.mktemp("whole") / "small")


def test_killed_audits_end_as_if_nothing_had_happened(reference: Whole, tmp_path: Path) -> None:
    counts = Counts()
    happened = sum(1 for _ in until([reference], tmp_path, random.Random(7), KILLS, DISKS, 30, counts))
    assert counts.differences == []
    assert counts.killed.total() >= KILLS
    assert counts.full.total() >= DISKS
    assert counts.killed[REPORT] + counts.killed[VERIFY] >= KILLS // 10
    assert happened == counts.killed.total() + counts.full.total()


def test_every_difference_of_two_runs_is_found(reference: Whole, tmp_path: Path) -> None:
    """So that none found means that there is none."""
    run = reference.run
    assert differences(run, run) == []

    def changed(name: str) -> Run:
        return Run.open(shutil.copytree(run.path, tmp_path / name))

    other = changed("table")
    rows = other.table("certificates")
    rows["radius"] += 1e-12
    write_frame(other.path / "tables" / "certificates.parquet", rows)
    assert "table certificates differs" in differences(run, other)
    other = changed("witness")
    path = next(p for p in sorted((other.path / "witnesses" / "fgsm-linf").iterdir()) if read_arrays(p))
    write_arrays(path, {key: array + 1e-7 for key, array in read_arrays(path).items()})
    assert any("witnesses/fgsm-linf" in line for line in differences(run, other))
    other = changed("page")
    (other.path / "figures").joinpath("more.csv").write_text("1\n")
    assert differences(run, other) == ["figures/more.csv is in one only"]
    other = changed("manifest")
    assert differences(run, other.updated(dtype="float64")) == ["the manifest differs in dtype"]
    first, *others = other.manifest.stages
    more = first.model_copy(update={"cost": first.cost.model_copy(update={"forwards": first.cost.forwards + 1})})
    other = other.updated(dtype=run.manifest.dtype, stages=(more, *others))
    assert differences(run, other) == ["the manifest differs in stages"]


def test_what_ends_an_action_is_told(tmp_path: Path) -> None:
    def writes(rest: float) -> int:
        for k in range(3):
            (tmp_path / f"{k}").write_bytes(b"x" * 1000)
        time.sleep(rest)
        return 7

    def files() -> dict[str, int]:
        found = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
        for name in found:
            (tmp_path / name).unlink()
        return found

    all_of_them = {str(k): 1000 for k in range(3)}
    ended = undisturbed(lambda: writes(0), tmp_path)
    assert (ended.code, ended.killed, files()) == (7, False, all_of_them)
    ended = killed_at(lambda: writes(0), tmp_path, 2)
    assert (ended.code, ended.killed, files()) == (-signal.SIGKILL, True, {"0": 1000})
    assert killed_at(lambda: writes(60), tmp_path, 1, later=0.01).killed
    assert killed_after(lambda: writes(60), tmp_path, 0.01).killed
    files()
    ended = killed_after(lambda: writes(0), tmp_path, 60)
    assert (ended.code, ended.killed, files()) == (7, False, all_of_them)
    ended = full_at(lambda: writes(0), tmp_path, 3, stays=False)
    assert ended.code == 1
    assert "No space left on device" in ended.output
    assert files() == {"0": 1000, "1": 1000}
    ended = full_after(lambda: writes(0), tmp_path, 100)
    assert ended.code == 1
    assert "File too large" in ended.output
    assert files() == {"0": 100}
