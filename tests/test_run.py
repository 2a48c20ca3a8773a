"""The run directory read back: a table is read once and the caller's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from run_fixture import build_run

from robusteval.audit import run as run_directory
from robusteval.audit.run import Run, write_frame


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_run(tmp_path / "run")


def test_a_table_is_read_once_until_its_file_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = run_directory.read_frame

    def counted(path: Path) -> pd.DataFrame:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(run_directory, "read_frame", counted)
    table = run.table("images")
    pd.testing.assert_frame_equal(Run.open(run.path).table("images"), table)
    assert len(reads) == 1
    write_frame(run.path / "tables" / "images.parquet", table.assign(correct=~table["correct"]))
    assert (run.table("images")["correct"] != table["correct"]).all()


def test_a_table_belongs_to_who_asked_for_it(run: Run) -> None:
    table = run.table("certificates")
    table.loc[:, "radius"] = -1.0
    table["more"] = 0
    again = run.table("certificates")
    assert (again["radius"] >= 0).all()
    assert "more" not in again
