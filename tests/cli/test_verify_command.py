"""`robusteval verify` as its users meet it: exit codes, the record and its signature, a page that was edited, and a
model that is a program."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from commands import here, in_a_process, main
from confining import confined
from robusteval import Run
from robusteval.reports import write_report
from robusteval.results.files import read_frame, write_frame
from robusteval.results.verification import read_verification

PROTOCOL = """
budgets = {linf = [0.1]}
attacks = [{method = "pgd", norm = "linf", steps = 3}]
certificates = [{method = "ibp", norm = "linf"}]
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    (folder / "p.toml").write_text(PROTOCOL)
    checkpoint = demo_folder / "digits-standard.safetensors"
    options = ("--data", "digits", "--limit", 6, "--protocol", folder / "p.toml", "--out", folder / "run")
    done = here("audit", checkpoint, "--arch", "digits-cnn", *options)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_that_holds_is_recorded_and_the_record_is_signed(audited: Path, tmp_path: Path) -> None:
    key, record = tmp_path / "key", tmp_path / "out" / "verification.json"
    signs = shutil.which("ssh-keygen") is not None
    if signs:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (tmp_path / "allowed").write_text(f"auditor {key.with_suffix('.pub').read_text()}")
    before = {p: p.read_bytes() for p in audited.rglob("*") if p.is_file()}
    done = in_a_process("verify", audited, "--out", tmp_path / "out", *(["--sign", key] if signs else []))
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in audited.rglob("*") if p.is_file()} == before
    said = read_verification(record)
    assert said.findings == ()
    assert said.values > 100
    assert said.sentence == done.stdout.strip().splitlines()[-1]
    assert said.digest in (audited / "report.html").read_text()
    assert said.digest in (tmp_path / "out" / "verification.html").read_text()
    checks = ["--allowed-signers", tmp_path / "allowed"] if signs else []
    again = here("verify", audited, "--check", record, *checks)
    assert (again.returncode, said.sentence in again.stdout) == (0, True), again.stderr
    record.write_text(record.read_text().replace('"values": ', '"values": 1', 1))
    assert here("verify", audited, "--check", record, *checks).returncode == (2 if signs else 0)


def test_a_page_that_was_edited_is_named(audited: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(audited, run)
    page = run / "report.html"
    page.write_text(page.read_text().replace("<h1>", "<h1>99.0 % ", 1))
    done = here("verify", run, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "wrong report.html, line " in done.stderr
    assert "99.0 %" in done.stderr
    (finding,) = json.loads((tmp_path / "out" / "verification.json").read_text())["findings"]
    assert finding.startswith("report.html, line ")


def test_a_model_that_is_a_program_runs_where_it_is_trusted_only(audited: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    program = tmp_path / "net.ts"
    torch.jit.save(torch.jit.trace(net, torch.rand(2, 1, 8, 8)), str(program))
    options = ("--data", "digits", "--limit", 6, "--protocol", audited.parent / "p.toml", "--out", tmp_path / "run")
    refused = here("audit", program, *options)
    assert (refused.returncode, f"--trust {program}" in refused.stderr) == (2, True)
    assert here("audit", program, "--trust", program, *options).returncode == 0
    waits = here("verify", tmp_path / "run")
    assert (waits.returncode, f"--trust {program}" in waits.stderr) == (3, True), waits.stderr
    assert here("verify", tmp_path / "run", "--trust", program).returncode == 0


def test_a_record_does_not_vouch_for_what_was_changed_after_it(audited: Path, tmp_path: Path) -> None:
    """Pages, and tables with pages made of them: the digest covers the evidence alone."""
    run, record = tmp_path / "run", tmp_path / "out" / "verification.json"
    shutil.copytree(audited, run)
    assert here("verify", run, "--witnesses-only", "--out", tmp_path / "out").returncode == 0
    assert here("verify", run, "--check", record).returncode == 0
    text = (run / "report.md").read_text()
    (run / "report.md").write_text(text.replace("# ", "# 99.0 % ", 1))
    done = here("verify", run, "--check", record)
    assert (done.returncode, "wrong report.md, line " in done.stderr) == (1, True)
    (run / "report.md").write_text(text)
    bounds = run / "tables" / "bounds.parquet"
    write_frame(bounds, read_frame(bounds).assign(upper_linf=math.inf))
    write_report(Run.open(run))
    done = here("verify", run, "--check", record)
    assert (done.returncode, "wrong table bounds, row " in done.stderr) == (1, True)
    shutil.copy(audited / "tables" / "bounds.parquet", bounds)
    write_report(Run.open(run))
    shutil.copy(run / "parts" / "pgd-linf" / "00000.parquet", run / "parts" / "pgd-linf" / "00099.parquet")
    done = here("verify", run, "--check", record)
    assert (done.returncode, "00099.parquet is not part of the run" in done.stderr) == (1, True)


def test_a_record_is_written_outside_of_the_run(audited: Path) -> None:
    for folder in (audited, audited / "records", audited / "figures" / ".." / "x"):
        done = here("verify", audited, "--out", folder)
        assert (done.returncode, "expected --out outside of" in done.stderr) == (2, True)
    assert not (audited / "records").exists()


def test_a_sample_is_verified_against_its_data(audited: Path, tmp_path: Path, demo_folder: Path) -> None:
    options = ("--data", "digits", "--protocol", audited.parent / "p.toml", "--out", tmp_path / "run")
    model = demo_folder / "digits-standard.safetensors"
    assert here("audit", model, "--arch", "digits-cnn", *options, "--sample", 4, "--seed", 3).returncode == 0
    done = here("verify", tmp_path / "run", "--data", "digits", "--witnesses-only")
    assert done.returncode == 0, done.stderr


def test_what_needs_a_model_waits_and_the_rest_is_checked(audited: Path, tmp_path: Path) -> None:
    """A model that is not there, or no model any more, hides nothing that is wrong with files and tables."""
    run, model = tmp_path / "run", tmp_path / "net.safetensors"
    shutil.copytree(audited, run)
    for page in ("report.html", "report.md"):
        (run / page).unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model"]["path"] = str(model)
    (run / "manifest.json").write_text(json.dumps(manifest))
    for content in (None, b"<html>"):
        if content:
            model.write_bytes(content)
        done = here("verify", run)
        assert done.returncode == 3, done.stderr
        assert "not checked: expected " in done.stderr
        assert "net.safetensors" in done.stderr
        assert "values were checked and hold" in done.stderr
    (run / "tables" / "images.parquet").unlink()
    done = here("verify", run)
    assert (done.returncode, "tables/images.parquet is missing" in done.stderr) == (1, True)


def test_verify_writes_below_its_folder_only(audited: Path, tmp_path: Path) -> None:
    done = confined(lambda: main(["verify", audited, "--out", tmp_path / "out"]), tmp_path / "out", seconds=60)
    assert (done.code, done.executed, done.outside) == (0, (), ()), done.output
