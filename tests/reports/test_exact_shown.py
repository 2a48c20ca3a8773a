"""Exact distances in everything that people read: one run by hand, and its leaderboard and certification."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robusteval as rv
from records import with_model
from robusteval.analysis.results import Results
from robusteval.analysis.summary import summarise
from robusteval.core.norms import Norm
from robusteval.reports.certification.page import write_certification
from robusteval.reports.figures.distances import brackets
from robusteval.reports.leaderboard import leaderboard, write_board
from robusteval.reports.sections.image_table import image_table
from robusteval.reports.sections.verdict import exact_sentence
from robusteval.results.run import Run
from run_fixture import Fake, FakeCertificate, build_paper_run
from visiting import Visit

FAR = [0.1005, 0.12, math.inf, 0.3, 0.05, 0.0]
PROVEN = [0.1, 0.1, 0.2, 0.0, 0.05, 0.0]
SENTENCE = "Of 5 images classified correctly the distance is exact, to 1 %, of 2 in Linf."


def made(path: Path, proven: list[float] = PROVEN) -> Run:
    """Of six images two are exact in Linf, one has no witness, one no proof, and the last is misclassified."""
    return build_paper_run(
        path,
        "mine",
        [far > 0 for far in FAR],
        [Fake("fmn-linf", "fmn", "linf", {"linf": FAR, "l2": [4 * far for far in FAR]})],
        name="small",
        certificates=[FakeCertificate("crown-linf", proven, "linf"), FakeCertificate("ibp-linf", [0.01] * 6, "linf")],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("exact"))


def test_the_headline_counts_them_norm_by_norm(run: Run) -> None:
    counted = {e.norm: (e.share.count, e.share.n) for e in summarise(run).exacts}
    assert counted == {"linf": (2, 5)}, "no attack searched in another norm"
    (line,) = (line for line in rv.headline(run) if line.quantity.startswith("Exact"))
    assert (line.quantity, line.at, line.shown, line.n) == ("Exact distances, to 1 %, at least", "Linf", "40.0 %", 5)
    assert line.interval == "5.2 to 85.4 %"


def test_without_an_exact_distance_one_line_says_so(tmp_path: Path) -> None:
    run = made(tmp_path, [far / 2 if math.isfinite(far) else 0.1 for far in FAR])
    (line,) = (line for line in rv.headline(run) if line.quantity.startswith("Exact"))
    assert (line.at, line.shown) == ("Linf", "0.0 %")
    assert exact_sentence(summarise(run).exacts) == ""
    assert "Exact" not in [column.title for column in image_table(Results(run)).columns]


def test_every_form_of_the_report_says_it(run: Run) -> None:
    page = rv.write_report(run).read_text()
    told = json.loads((run.path / "report.json").read_text())
    assert SENTENCE in page
    assert SENTENCE in told["verdict"]
    assert SENTENCE in (run.path / "report.md").read_text()
    rows = pd.read_csv(run.path / "tables" / "report" / "brackets.csv", dtype=str).iloc[0]
    assert rows.tolist()[:4] == ["Linf", "2 of 5", "40.0 %", "5.2 to 85.4 %"]
    assert "2 of 5 & 40.0 \\%" in (run.path / "tables" / "report" / "brackets.tex").read_text()
    assert SENTENCE in write_certification(run).read_text()


def test_the_table_of_images_has_one_number_of_an_exact_distance(run: Run) -> None:
    table = image_table(Results(run))
    (at,) = (i for i, column in enumerate(table.columns) if column.title == "Exact")
    assert table.columns[at].group == "Linf"
    assert [str(row[at][0]) for row in table.rows] == ["0.10050", "", "", "", "0.05000", ""]
    assert [fact["exact"] for fact in table.facts] == [True, False, False, False, True, False]


def test_a_figure_has_one_dot_of_an_exact_distance(run: Run) -> None:
    """The marks of each line, by its label: a proof has none where the distance is exact, and no bar is there."""
    from matplotlib.figure import Figure

    (plot,) = (plot for plot in brackets(Results(run)) if plot.name == f"bracket-{Norm.LINF}")
    assert plot.data["exact"].tolist() == [False, True, True, False, False, False]
    figure = Figure()
    plot.draw(figure)
    (axes,) = figure.axes
    marks = {str(line.get_label()): np.size(line.get_xdata()) for line in axes.lines}
    assert marks["exact, to 1 %: witness and proof meet"] == 2
    assert (marks["closest witness (upper bound)"], marks["no witness found"]) == (3, 1)
    assert [count for label, count in marks.items() if "proof)" in label] == [4, 4]
    (bars,) = axes.collections
    assert len(bars.get_paths()) == 4
    assert "the distance is exact" in plot.caption


def test_a_leaderboard_compares_how_much_is_known(run: Run, tmp_path: Path) -> None:
    other = with_model(made(tmp_path / "other", [0.0] * 6), name="other", fingerprint="e" * 64)
    board = leaderboard([run, other])
    (column,) = (column for column in board.columns if column.key == "exact_linf")
    shown = {entry.model: entry.scores[column.key].shown for entry in board.entries}
    assert shown == {"small": "40.0 %", "other": "0.0 %"}
    assert all(entry.scores[column.key].rank is None for entry in board.entries)
    assert "Exact distances" in write_board(board, tmp_path / "board").read_text()
    assert leaderboard([run]).columns, "one model alone has a board, too"


def test_exact_distances_are_filtered_in_a_browser(run: Run, browser: Any) -> None:
    visit = Visit(browser, rv.write_report(run))
    visit.tab.select_option("#filter-show", "exact")
    assert visit.settles("Exact", "0.10050") == ["0.10050", "0.05000"]
    assert visit.said == []
