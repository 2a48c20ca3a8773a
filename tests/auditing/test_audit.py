"""Whole audits: the same numbers whatever the batches, resumed after a kill, and verified again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from commands import here
from robusteval import Run, UserError, open_checkpoint, read_images, run_audit, verify
from robusteval.core.images import Images
from robusteval.results.files import read_arrays, read_cost, read_frame, write_arrays, write_frame
from robusteval.results.records import CLEAN, StageRecord
from robusteval.results.tables import TABLES

COUNT = 20


@pytest.fixture(scope="module")
def images() -> Images:
    return read_images("digits", COUNT)


def audit(images: Images, demo: Path, protocol: Path, out: Path, **settings: object) -> Run:
    model = open_checkpoint(str(demo / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    source = open_checkpoint(str(demo / "digits-pgd-linf.safetensors"), "digits-cnn", input_shape=images.shape)
    return run_audit(model, images, str(protocol), out, sources=[source], **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(images: Images, demo_folder: Path, protocol_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("audit") / "run"
    return audit(images, demo_folder, protocol_file, out, dtype="float64", batch_size=7)


def assert_same(one: Run, other: Run, tolerance: float) -> None:
    for name in TABLES:
        left, right = one.table(name), other.table(name)
        if tolerance == 0:
            pd.testing.assert_frame_equal(left, right, check_exact=True)
        else:
            pd.testing.assert_frame_equal(left, right, rtol=tolerance, atol=tolerance)


def test_the_tables_have_their_schemas_and_sane_numbers(run: Run) -> None:
    for name, table in TABLES.items():
        assert list(run.table(name).columns[: len(table.columns)]) == table.names
    bounds = run.bounds()
    assert len(bounds) == COUNT
    witnesses = run.table("witnesses")
    found = witnesses[witnesses["success"]]
    for norm in ("l2", "linf"):
        own = found[found["norm"] == norm]
        assert (own[norm] <= own["budget"] * (1 + 1e-6)).all()
    failed = witnesses[~witnesses["success"]]
    assert np.isinf(failed[["l0", "l1", "l2", "linf"]].to_numpy()).all()
    correct = run.table("images").set_index("image_id")["correct"]
    wrong = witnesses[~witnesses["image_id"].map(correct)]
    assert (wrong["linf"] == 0).all()
    assert (wrong["forwards"] == 0).all()
    attacked = witnesses[witnesses["image_id"].map(correct) & (witnesses["method"] == "pgd-linf")]
    assert attacked.groupby("image_id")["forwards"].sum().between(1, 2 * 2 * 6).all()


def test_robust_accuracy_falls_with_the_budget(run: Run) -> None:
    rows = run.table("witnesses")
    rates = rows[rows["method"] == "pgd-linf"].groupby("budget")["success"].mean()
    assert rates.is_monotonic_increasing
    assert rates.iloc[-1] >= 0.5


def test_every_stage_and_what_it_learns_from_the_set_takes_time_inside_the_model(run: Run) -> None:
    for stage in run.manifest.stages:
        assert 0 < stage.cost.model_seconds <= stage.cost.seconds, stage.name
    learned = [read_cost(run.part(name, "set", "statistics")) for name in ("l-bound-l2", "omega-bound-linf")]
    assert all(0 < cost.model_seconds <= cost.seconds for cost in learned)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_batch_size_changes_nothing(
    run: Run, images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path, batch_size: int
) -> None:
    other = audit(images, demo_folder, protocol_file, tmp_path / "r", dtype="float64", batch_size=batch_size)
    assert_same(run, other, 1e-9)


def test_the_order_of_the_images_changes_nothing(
    run: Run, images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path
) -> None:
    shuffled = images.select(torch.randperm(COUNT, generator=torch.Generator().manual_seed(1)))
    other = audit(shuffled, demo_folder, protocol_file, tmp_path / "r", dtype="float64", batch_size=7)
    assert_same(run, other, 1e-9)


def test_another_seed_draws_other_numbers(
    run: Run, images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path
) -> None:
    other = audit(images, demo_folder, protocol_file, tmp_path / "r", dtype="float64", batch_size=7, seed=1)
    counts = [r.table("measurements").query("quantity == 'smoothing_count'")["value"] for r in (run, other)]
    assert not counts[0].equals(counts[1])


KILLED = """
import os, signal, sys
import robusteval.results.atomic as files
from robusteval import open_checkpoint, read_images, run_audit

model, source, protocol, out = sys.argv[1:]
images = read_images("digits", COUNT)
models = [open_checkpoint(path, "digits-cnn", input_shape=images.shape) for path in (model, source)]
replace = os.replace

def killed(temporary, path):
    "The end comes where a part is written, and has not its name yet."
    if "parts/pgd-linf/00001" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(temporary, path)

files.os.replace = killed
run_audit(models[0], images, protocol, out, sources=models[1:], dtype="float64", batch_size=7)
"""


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_tables(
    run: Run, images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    models = (demo_folder / "digits-standard.safetensors", demo_folder / "digits-pgd-linf.safetensors")
    code = KILLED.replace("COUNT", str(COUNT))
    done = subprocess.run([sys.executable, "-c", code, *map(str, (*models, protocol_file, out))], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((out / "manifest.json").read_text())["status"] == "incomplete"
    before = {p: p.stat().st_mtime_ns for p in out.glob("parts/*/*.parquet")}
    assert out / "parts" / "pgd-linf" / "00000.parquet" in before
    assert out / "parts" / "pgd-linf" / "00001.parquet" not in before
    assert list(out.glob("parts/pgd-linf/00001.*.tmp")), "killed between parts"
    continued = audit(images, demo_folder, protocol_file, out, dtype="float64", batch_size=7)
    assert all(p.stat().st_mtime_ns == at for p, at in before.items()), "finished parts were computed again"
    assert_same(run, continued, 0)


def test_an_honest_run_verifies(run: Run) -> None:
    assert list(verify(run)) == []


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    import shutil

    return Run.open(shutil.copytree(run.path, tmp_path / "copy"))


def test_a_tampered_witness_is_named(copy: Run) -> None:
    path = next(p for p in sorted(copy.path.glob("witnesses/pgd-linf/*")) if read_arrays(p))
    arrays = read_arrays(path)
    key = sorted(arrays)[0]
    clean = copy.arrays(CLEAN)[key.split("/")[1]]
    write_arrays(path, arrays | {key: clean})
    findings = list(verify(copy))
    assert any("was changed" in f and path.name in f for f in findings)
    assert any("pgd-linf, row" in f and key.split("/")[1] in f and "success" in f for f in findings)


@pytest.mark.parametrize("name", ["images", "witnesses", "certificates", "measurements", "statistics", "bounds"])
def test_a_tampered_table_value_is_named(copy: Run, name: str) -> None:
    column = {"images": "logit_margin", "witnesses": "linf", "certificates": "radius", "bounds": "upper_linf"}
    frame = copy.table(name)
    frame.loc[5, column.get(name, "value")] = 0.123
    write_frame(copy.path / "tables" / f"{name}.parquet", frame)
    (finding,) = [f for f in verify(copy) if f.startswith(f"table {name}, row 5 (")]
    assert "is 0.123, expected" in finding


@pytest.mark.parametrize("stage", ["clean", "pgd-linf", "smoothing-l2", "l-bound-l2", "gaussian-noise"])
def test_a_tampered_part_is_named_even_when_its_tables_follow(copy: Run, stage: str) -> None:
    from robusteval.results.files import checksum
    from robusteval.results.tabulate import write_tables

    path = copy.part(stage, "00001")
    frame = read_frame(path)
    column = next(c for c in ("logit_margin", "linf", "radius", "value") if c in frame)
    frame[column] = 0.123
    write_frame(path, frame)
    write_tables(copy)
    name = str(path.relative_to(copy.path))
    forged = copy.updated(evidence=copy.manifest.evidence | {name: checksum(path)})
    assert any(stage in f and "row" in f and "is 0.123" in f for f in verify(forged))


def test_a_missing_witness_and_a_stray_file_are_named(copy: Run) -> None:
    path = copy.array_file("pgd-linf", "00000")
    path.rename(path.with_name("stray.safetensors"))
    findings = list(verify(copy))
    assert "witnesses/pgd-linf/00000.safetensors is missing" in findings
    assert "witnesses/pgd-linf/stray.safetensors is not part of the run" in findings


def test_another_model_seed_or_protocol_is_refused_and_nothing_is_lost(
    run: Run, images: Images, demo_folder: Path, protocol_file: Path
) -> None:
    before = (run.path / "manifest.json").read_text()
    with pytest.raises(UserError, match="expected the seed of the run"):
        audit(images, demo_folder, protocol_file, run.path, dtype="float64", seed=5)
    with pytest.raises(UserError, match="expected the data set of the run"):
        audit(read_images("digits", 5), demo_folder, protocol_file, run.path, dtype="float64")
    with pytest.raises(UserError, match="expected the batch size of the run"):
        audit(images, demo_folder, protocol_file, run.path, dtype="float64", batch_size=3)
    other = open_checkpoint(str(demo_folder / "digits-pgd-l2.safetensors"), "digits-cnn", input_shape=images.shape)
    with pytest.raises(UserError, match="expected the model of the run"):
        run_audit(other, images, str(protocol_file), run.path, dtype="float64")
    assert (run.path / "manifest.json").read_text() == before


def test_a_directory_with_other_things_is_refused(
    images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other things"):
        audit(images, demo_folder, protocol_file, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_method_that_cannot_run_does_not_stop_the_others(
    images: Images, demo_folder: Path, protocol_file: Path, tmp_path: Path
) -> None:
    model = open_checkpoint(str(demo_folder / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    run = run_audit(model, images, str(protocol_file), tmp_path / "run", batch_size=16)
    transfer = run.manifest.stage("transfer-linf")
    assert transfer.status == "unavailable"
    assert "got none" in transfer.reason
    assert len(run.manifest.ran(StageRecord)) == len(run.manifest.stages) - 1
    assert list(verify(run)) == []


LIE = """
import torch
from robusteval.certify.base import Certificate, Radii
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm

class Lie(Certificate):
    name = "lie"
    title = "Lie"
    summary = "proves everything"
    norms = (Norm.LINF,)
    kind = Guarantee.PROOF

    def radii(self, classifier, images, state, streams):
        radius = torch.full((len(images),), 0.09, dtype=torch.float64)
        predicted = classifier.predict(images.pixels).argmax(1)
        return Radii(radius, predicted, torch.zeros_like(predicted, dtype=torch.bool))
"""
UNTRIED = """
    def tried(self, classifier, images, state, streams):
        return self.radii(classifier, images, state, streams)
"""
"""So that only the witnesses of the run speak against it."""
REFUTED = """
[budgets]
linf = [0.1]
[[attacks]]
method = "fgsm"
norm = "linf"
[[attacks]]
method = "deepfool"
norm = "linf"
[[certificates]]
method = "lie.py:Lie"
norm = "linf"
"""


def test_a_refuted_proof_stops_the_audit_and_leaves_the_evidence(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lie.py").write_text(LIE + UNTRIED)
    (tmp_path / "protocol.toml").write_text(REFUTED)
    model, out = demo_folder / "digits-standard.safetensors", tmp_path / "run"
    asked = ("--data", "digits", "--arch", "digits-cnn", "--limit", 10, "--protocol", tmp_path / "protocol.toml")
    for _ in range(2):
        done = here("audit", model, *asked, "--out", out)
        assert done.returncode == 1, done.stderr
        assert "expected no witness inside a proven radius" in done.stderr
        assert re.search(r"image \S+: lie-linf proves linf 0.09, the witness of \S+-linf lies at 0\.0", done.stderr)
        assert "Traceback" not in done.stderr
    bounds = Run.open(out).bounds()
    refuted = bounds["proof_linf"] > bounds["upper_linf"]
    assert refuted.any()
    assert (bounds["contradictions"][refuted] == "lie-linf").all()
    assert not Run.open(out).manifest.complete


def test_a_proof_that_does_not_hold_is_attacked_and_stops_the_audit(demo_folder: Path, tmp_path: Path) -> None:
    """Without any attack in the protocol, as in `robusteval certify`."""
    (tmp_path / "lie.py").write_text(LIE)
    (tmp_path / "protocol.toml").write_text("[[certificates]]\nmethod = 'lie.py:Lie'\nnorm = 'linf'\n")
    model = demo_folder / "digits-standard.safetensors"
    asked = ("--data", "digits", "--arch", "digits-cnn", "--limit", 10, "--protocol", tmp_path / "protocol.toml")
    for verb in ("audit", "certify"):
        done = here(verb, model, *asked, "--out", tmp_path / verb)
        assert done.returncode == 1, done.stderr
        (line,) = [text for text in done.stderr.splitlines() if text.startswith("refuted:")]
        assert re.search(r"within Linf 0.09 of image \S+, which Lie proves, got one at 0\.0[0-9]+ \(class", line)
        assert "Traceback" not in done.stderr
        assert not Run.open(tmp_path / verb).manifest.complete
