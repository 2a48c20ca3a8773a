"""A metric without a chapter of its own is shown all the same; a chapter asks only for what its metric declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from records import metric_record
from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.core.methods import Quantity
from robusteval.core.registry import Origin
from robusteval.reports import write_report
from robusteval.reports.chapters import CHAPTERS, chapters_of
from robusteval.results.files import write_frame
from robusteval.results.records import MetricRecord
from robusteval.results.run import Run
from robusteval.results.tables import MEASUREMENTS_TABLE, STATISTICS_TABLE
from run_fixture import IDS, N, build_run

STEPS = (0.0, 0.5, 1.0)
QUANTITIES = (
    Quantity(name="bend_{side}", title="bend on the {side}"),
    Quantity(name="hue", title="mean hue"),
    Quantity(name="total", title="hue of all images"),
)


def record(**more: object) -> MetricRecord:
    """Of a method that no registry knows."""
    given = {"title": "Bends, deep", "method": "bends", "quantities": QUANTITIES, "origin": Origin("b:B", "bends", "2")}
    return MetricRecord.model_validate({**metric_record("my-bends", "noise").model_dump(), **given, **more})


def values(step: float) -> NDArray[np.float64]:
    return np.arange(N, dtype=np.float64) * (1 + step)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = build_run(tmp_path / "run")

    def rows(quantity: str, at: float, found: object) -> pd.DataFrame:
        own = {"image_id": IDS, "method": "my-bends", "quantity": quantity, "at": at, "value": found}
        return MEASUREMENTS_TABLE.frame(own)

    frames = [rows("bend_left", step, values(step)) for step in STEPS]
    frames += [rows("hue", 0, [np.nan, *[2.0] * (N - 1)]), rows("unsaid", 0, 7.0), rows("unsaid", 1, 8.0)]
    total = {"method": ["my-bends"], "quantity": ["total"], "at": [0.0], "value": [41.5]}
    for name, more in (("measurements", frames), ("statistics", [STATISTICS_TABLE.frame(total)])):
        write_frame(run.path / "tables" / f"{name}.parquet", pd.concat([run.table(name), *more], ignore_index=True))
    return run.updated(stages=(*run.manifest.stages, record()))


def test_its_chapter_comes_last_under_its_title(run: Run) -> None:
    found = chapters_of(Results(run))
    assert found[:-1] == [*CHAPTERS]
    assert (found[-1].method, found[-1].title) == ("bends", "Bends, deep")


def test_its_table_has_mean_error_and_median_of_each_quantity(run: Run) -> None:
    measured, counted = chapters_of(Results(run))[-1].grids(Results(run))
    assert measured.title == "Bends, deep"
    cells = {(row[0], row[1]): row[2:] for row in measured.rows}
    # 0 to 7 have mean and median 3.5, and standard deviation sqrt(6), over sqrt(8) 0.87.
    assert cells["bend on the left", "0"] == ["3.5 ± 0.87", "3.5", "8"]
    assert cells["bend on the left", "1"] == ["7 ± 1.7", "7", "8"]
    assert cells["mean hue", "0"] == ["2 ± 0", "2", "7"]
    assert counted.rows == [["hue of all images", "0", "41.5"]]


def test_a_quantity_that_it_does_not_declare_is_in_the_table_by_its_name(run: Run) -> None:
    measured, _ = chapters_of(Results(run))[-1].grids(Results(run))
    assert [row[1:3] for row in measured.rows if row[0] == "unsaid"] == [["0", "7 ± 0"], ["1", "8 ± 0"]]


def test_what_was_measured_at_several_places_is_drawn_against_them(run: Run) -> None:
    (plot,) = chapters_of(Results(run))[-1].plots(Results(run))
    assert plot.title == "Bends, deep: bend on the left"
    assert plot.data["at"].tolist() == list(STEPS)
    assert plot.data["mean"].tolist() == [3.5 * (1 + step) for step in STEPS]
    error = values(0).std(ddof=1) / np.sqrt(N)
    assert plot.data["standard_error"].tolist() == pytest.approx([error * (1 + step) for step in STEPS])


def test_it_is_in_the_report_with_its_figure(run: Run) -> None:
    page = write_report(run).read_text()
    assert '<td class="text">bend on the left</td>' in page
    assert (run.path / "figures" / "measured-bend_left-my-bends.svg").exists()


def noise_of(run: Run) -> MeasuredStage:
    (stage,) = measured_stages(Results(run), "noise")
    return stage


@pytest.mark.parametrize("quantity", ["kepd", "noise_area_", "kept_{way}"])
def test_a_quantity_that_the_metric_does_not_declare_is_an_error(run: Run, quantity: str) -> None:
    stage, labelled = noise_of(run), ByLabel(run)
    asked: list[Callable[[], object]] = [
        lambda: stage.rows(quantity),
        lambda: stage.set_rows(quantity),
        lambda: stage.values(quantity),
        lambda: stage.means([quantity]),
        lambda: stage.titles([quantity]),
        lambda: labelled.measurement("gaussian-noise", quantity),
        lambda: labelled.statistic("gaussian-noise", quantity),
        lambda: labelled.statistics_of("gaussian-noise", quantity),
        lambda: labelled.places("gaussian-noise", quantity),
    ]
    for ask in asked:
        with pytest.raises(KeyError, match=f"expected a quantity that noise declares, got '{quantity}'"):
            ask()


def test_rows_are_those_of_the_quantity(run: Run) -> None:
    rows = noise_of(run).rows("kept")
    assert set(rows["quantity"]) == {"kept"}
    assert len(rows) == 3 * N
    (bends,) = measured_stages(Results(run), "bends")
    assert set(bends.rows("bend_{side}")["quantity"]) == {"bend_left"}
    assert len(bends.rows("hue")) == N - 1
    assert bends.set_rows("total")["value"].tolist() == [41.5]
