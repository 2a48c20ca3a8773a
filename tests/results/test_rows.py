"""Rows of a table are the same however many are read at once, and of the columns that are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.results import rows
from robusteval.results.run import Run
from run_fixture import IDS, N, build_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three times eight images; the tables are in groups of five rows."""
    run = build_run(tmp_path_factory.mktemp("rows"), copies=3)
    for file in (run.path / "tables").glob("*.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=5, write_page_checksum=True)
    return run


@pytest.fixture(params=["kept", "in pieces"])
def run(request: pytest.FixtureRequest, finished: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Tables that are small enough to be kept, and too large for that."""
    rows._kept.cache_clear()
    if request.param == "in pieces":
        monkeypatch.setattr(rows, "FEW", 0)
        monkeypatch.setattr(rows, "AT_ONCE", 3)
    return finished


@pytest.mark.parametrize("table", ["images", "witnesses", "certificates", "measurements", "statistics", "bounds"])
def test_all_rows_are_the_table(run: Run, table: str) -> None:
    pd.testing.assert_frame_equal(rows.read_rows(run, table), run.table(table))
    pieces = [*rows.read_pieces(run, table)]
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), run.table(table))


def test_rows_of_a_stage_and_a_quantity(run: Run) -> None:
    whole = run.table("measurements")
    wanted = whole[(whole["method"] == "jacobian-spectrum") & (whole["quantity"] == "singular_value")]
    found = rows.read_rows(run, "measurements", ["value", "at"], "jacobian-spectrum", ["singular_value"])
    pd.testing.assert_frame_equal(found, wanted[["value", "at"]].reset_index(drop=True))
    witnesses = run.table("witnesses")
    found = rows.read_rows(run, "witnesses", None, "deepfool-l2")
    pd.testing.assert_frame_equal(found, witnesses[witnesses["method"] == "deepfool-l2"].reset_index(drop=True))


def test_of_a_stage_without_rows_there_are_the_columns(run: Run) -> None:
    found = rows.read_rows(run, "witnesses", ["image_id", "l2"], "no such stage")
    assert (list(found), len(found)) == (["image_id", "l2"], 0)


def test_distances_and_radii_are_those_of_the_tables(run: Run) -> None:
    results, ids = Results(run), run.table("images")["image_id"]
    witnesses = run.table("witnesses")
    for stage in ("pgd-linf", "deepfool-l2"):
        own = witnesses[witnesses["success"] & (witnesses["method"] == stage)].groupby("image_id")[list(Norm)].min()
        for norm in Norm:
            wanted = own[norm].reindex(ids).fillna(np.inf).to_numpy()
            assert (results.distances(norm, stage) == wanted).all()
    assert np.isinf(results.distances("l2", "no such stage")).all()
    smooth = run.table("certificates").query("method == 'smoothing-l2'").set_index("image_id")
    assert (results.radii("smoothing-l2").index == ids).all()
    usable = (smooth["predicted"].to_numpy() == run.table("images")["label"].to_numpy()) & ~smooth["abstained"]
    assert (results.radii("smoothing-l2").to_numpy() == np.where(usable, smooth["radius"], 0.0)).all()
    assert (np.sort(results.usable_radii("smoothing-l2")) == np.sort(smooth["radius"][usable])).all()


def test_places_are_those_of_the_ids(finished: Run) -> None:
    results = Results(finished)
    for asked in (IDS, IDS[::-1], IDS[2:4], [IDS[3], IDS[3]], []):
        assert results.places_of(pd.Series(asked, dtype="str")).tolist() == [IDS.index(i) for i in asked]
    with pytest.raises(UserError, match=r"expected the images of the run in .*, got others"):
        results.places_of(pd.Series(["another"], dtype="str"))


def test_where_something_was_measured(run: Run) -> None:
    found = Results(run).measured("jacobian-spectrum").set_index(["quantity", "at"])["images"]
    # Half of the first values at witnesses are no numbers.
    assert found["singular_value", 1.0] == 3 * N
    assert found["singular_value_adversarial", 1.0] == 3 * N // 2
    assert found.index.is_monotonic_increasing


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    (tmp_path / "tables" / "images.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"expected a readable table in .*images\.parquet, got"):
        Results(run).images  # noqa: B018
