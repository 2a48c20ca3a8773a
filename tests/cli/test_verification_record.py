"""The record of a verification: its counts, its sentence, and its signature, which a changed record loses."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from confining import confined
from robusteval.cli.recording import check_record, make_record
from robusteval.cli.signing import check, sign
from robusteval.core.errors import UserError
from robusteval.reports.verification import write_verification
from robusteval.results.files import checksum
from robusteval.results.run import Run
from robusteval.results.verification import Checked, Verification
from run_fixture import build_run

NEEDS = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="signs by ssh-keygen")


def record_of(run: Run) -> Verification:
    return make_record(run, [Checked(what="predictions", values=16)], ["costs and times"], [], "cpu", 1.0)


def test_the_sentence_says_what_was_checked_and_no_more(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    two = [Checked(what="files", values=1200)]
    record = make_record(run, two, ["costs"], [], "cpu", 1.0)
    assert record.sentence == "1,200 values were checked and hold; 1 kind of claim was not checked, which is listed."
    wrong = make_record(run, two, ["costs"], ["a"], "cpu", 1.0)
    assert (
        wrong.sentence
        == "1,200 values were checked; 1 claim does not hold; 1 kind of claim was not checked, which is listed."
    )


def test_the_record_is_read_as_it_was_written_and_of_its_run_only(tmp_path: Path) -> None:
    made = build_run(tmp_path / "run")
    sealed = {str(p.relative_to(made.path)): checksum(p) for p in made.evidence()}
    run = Run(made.path, made.manifest.model_copy(update={"evidence": sealed}))
    record = record_of(run)
    path = write_verification(record, tmp_path / "out")
    assert check_record(run, path, None) == (record, "")
    other = Run(run.path, run.manifest.model_copy(update={"seed": 7}))
    with pytest.raises(UserError, match="expected a record of"):
        check_record(other, path, None)
    file = run.path / min(sealed)
    file.write_bytes(file.read_bytes() + b"1")
    with pytest.raises(UserError, match="expected the evidence"):
        check_record(run, path, None)


@NEEDS
def test_a_signature_passes_and_a_changed_record_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"auditor {key.with_suffix('.pub').read_text()}")
    path = write_verification(record_of(build_run(tmp_path / "run")), tmp_path / "out")
    sign(path, key)
    assert check(path, allowed) == "auditor"
    path.write_text(path.read_text().replace('"values": 16', '"values": 17'))
    with pytest.raises(UserError, match="as auditor signed it"):
        check(path, allowed)


@pytest.mark.parametrize("kind", ["FIFO", "/dev/zero", "folder", "long", "none", "10,000 lists"])
def test_a_record_that_is_no_file_of_its_size_is_refused_unread(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "long":
        os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40)
    elif kind == "10,000 lists":
        path.write_text("[" * 10_000)
    elif kind != "none":
        path.symlink_to(kind)
    run = build_run(tmp_path / "run")

    def action() -> int:
        try:
            check_record(run, path, None)
        except UserError as error:
            print(error)
            return 2
        return 0

    found = confined(action, tmp_path, seconds=10)
    assert found.code == 2
    assert found.clean
    assert found.output.startswith("expected a")
    assert str(path) in found.output
