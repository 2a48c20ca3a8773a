"""Whose images a run keeps: the same tables, fewer files, the same when it is stopped in between."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import robusteval as rv
from commands import here
from robusteval import UserError
from robusteval.auditing import keeping as writing_parts
from robusteval.auditing.stages.base import Stage
from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.models.plain import as_images
from robusteval.results import keeping
from robusteval.results.atomic import NotWrittenError
from robusteval.results.run import Run
from robusteval.results.tables import TABLES
from same_runs import differences, files

KINDS = ("all", "sample", "none")
KEPT = 7
PROTOCOL = """
[budgets]
linf = [0.1, 0.5]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 10
[[attacks]]
method = "pgd"
name = "every"
norm = "linf"
steps = 5
every_budget = true
[[attacks]]
method = "polish"
norm = "linf"
steps = 5
[[certificates]]
method = "ibp"
norm = "linf"
[[metrics]]
method = "covariance"
witnesses = "pgd-linf"
[[metrics]]
method = "jacobian-spectrum"
ranks = 2
witnesses = "polish-linf"
"""


@dataclass(frozen=True)
class Audit:
    """An audit of 24 images that keeps the evidence of some of them, in a folder."""

    folder: Path
    model: Classifier
    images: Images

    def __call__(self, kind: str, out: str | None = None) -> Run:
        protocol = str(self.folder / "p.toml")
        return rv.audit(
            self.model, self.images, protocol, self.folder / (out or kind), evidence=kind, batch_size=5, device="cpu"
        )


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    monkeypatch.setattr(keeping, "SAMPLE", KEPT)
    (tmp_path / "p.toml").write_text(PROTOCOL)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    pixels = torch.rand(24, 1, 4, 4)
    labels = network(pixels).argmax(1)
    labels[3] = (labels[3] + 1) % 3
    return Audit(tmp_path, make_classifier("model", network, (1, 4, 4)), as_images(pixels, labels, source="drawn"))


def test_tables_are_the_same_and_files_are_fewer(audit: Audit) -> None:
    runs = {kind: audit(kind) for kind in KINDS}
    for name in TABLES:
        assert all(runs["all"].table(name).equals(run.table(name)) for run in runs.values()), name
    assert [run.manifest.images_kept for run in runs.values()] == list(KINDS)
    everything, some = (runs[kind].arrays("clean") for kind in ("all", "sample"))
    assert len(everything) == 24
    assert len(some) == KEPT
    assert all((some[i] == everything[i]).all() for i in some)
    for stage in ("pgd-linf", "every", "polish-linf"):
        ours, theirs = (runs[kind].arrays(stage) for kind in ("all", "sample"))
        assert theirs.keys() == {name for name in ours if name.partition("/")[2] in some}
        assert theirs.keys() < ours.keys()
    assert not (runs["none"].path / "witnesses").exists()
    assert not any((run.path / "needed").exists() for run in runs.values())


def test_who_is_kept_depends_on_the_seed_and_on_nothing_else(audit: Audit) -> None:
    manifest, ids = audit("sample").manifest, audit.images.ids
    kept = keeping.kept_ids(manifest, ids)
    assert kept == keeping.kept_ids(manifest, reversed(ids))
    assert kept != keeping.kept_ids(manifest.model_copy(update={"seed": 1}), ids)


@pytest.mark.parametrize("kind", ["sample", "none"])
def test_an_audit_that_is_stopped_goes_on_with_what_it_has(
    kind: str, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, write = audit(kind), writing_parts.write_part
    for most in (3, 12, 19):
        written: list[str] = []

        def count(run: Run, stage: Stage, shard: str, *rest: Any, w: list[str] = written, n: int = most) -> None:
            if len(w) == n:
                raise NotWrittenError("the disk is full")
            write(run, stage, shard, *rest)
            w.append(f"{stage.name}/{shard}")

        monkeypatch.setattr("robusteval.auditing.session.write_part", count)
        with pytest.raises(NotWrittenError):
            audit(kind, f"stopped-{most}")
        monkeypatch.setattr("robusteval.auditing.session.write_part", partial(count, n=1000))
        assert differences(whole, audit(kind, f"stopped-{most}"), pages=False) == []
        assert len(written) == len(set(written)), "nothing that was written is computed again"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", ["polish-linf/00002", "covariance/00000", "clean/00001"])
def test_what_is_lost_of_a_finished_run_is_computed_again(kind: str, lost: str, audit: Audit) -> None:
    run = audit(kind)
    kept = Run.open(shutil.copytree(run.path, audit.folder / "kept"))
    (run.path / "parts" / f"{lost}.parquet").unlink()
    mended = audit(kind)
    assert mended.manifest.complete
    assert differences(kept, mended, pages=False) == []
    assert not (run.path / "needed").exists()


def test_images_that_a_later_stage_needs_are_made_again_where_they_are_lost(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, write = audit("none"), writing_parts.write_part

    def stop(run: Run, stage: Stage, *rest: Any) -> None:
        if stage.name == "polish-linf":
            raise NotWrittenError("the disk is full")
        write(run, stage, *rest)

    with monkeypatch.context() as stopped:
        stopped.setattr("robusteval.auditing.session.write_part", stop)
        with pytest.raises(NotWrittenError):
            audit("none", "stopped")
    needed = audit.folder / "stopped" / "needed"
    assert sorted(files(needed))[0] == "every/00000.safetensors"
    (needed / "pgd-linf" / "00001.safetensors").write_bytes(b"damaged")
    (needed / "every" / "00003.safetensors").unlink()
    assert differences(whole, audit("none", "stopped"), pages=False) == []
    assert not needed.exists()


def test_a_failed_stage_is_tried_again_with_what_it_needs(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    from robusteval.attacks.polish import Polish

    whole = audit("sample")

    def fail(*given: object) -> None:
        raise ValueError("not today")

    with monkeypatch.context() as failing:
        failing.setattr(Polish, "improve", fail)
        incomplete = audit("sample", "failed")
    assert [s.name for s in incomplete.manifest.failed] == ["polish-linf"]
    parts = {p: p.stat().st_mtime_ns for p in (incomplete.path / "parts" / "pgd-linf").iterdir()}
    assert sorted(p.name for p in (incomplete.path / "needed").iterdir()) == ["every", "pgd-linf"]
    lines = list(rv.verify(incomplete, audit.model))
    assert lines == []
    again = audit("sample", "failed")
    assert parts == {p: p.stat().st_mtime_ns for p in parts}
    assert differences(whole, again, pages=False) == []
    assert not (again.path / "needed").exists()


def test_a_run_goes_on_only_with_what_it_was_asked_to_keep(audit: Audit) -> None:
    audit("sample")
    with pytest.raises(UserError, match="images kept as evidence"):
        audit("none", "sample")
    with pytest.raises(UserError, match="expected --evidence all, sample, none, got 'some'"):
        audit("some")


def test_reports_and_a_leaderboard_are_written_of_runs_without_images(demo_folder: Path, tmp_path: Path) -> None:
    model = demo_folder / "digits-standard.safetensors"
    asked = ("--arch", "digits-cnn", "--data", "digits", "--limit", 4, "--evidence", "none")
    for name, command in (("audited", "audit"), ("certified", "certify")):
        done = here(command, model, *asked, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert not list((tmp_path / name).rglob("*.safetensors"))
        page = (tmp_path / name / "report.html").read_text()
        assert "none (--evidence none)" in page
        assert "data:image/png" not in page.split("</head>")[1].split("Images kept")[0]
    done = here("leaderboard", tmp_path / "audited", "--out", tmp_path / "board")
    assert done.returncode == 0, done.stderr
    done = here("verify", tmp_path / "audited")
    assert done.returncode == 0, done.stderr
    assert "Of 4 images the run keeps no evidence." in done.stdout
    done = here("verify", tmp_path / "audited", "--data", "digits", "--attacks")
    assert done.returncode == 0, done.stderr
