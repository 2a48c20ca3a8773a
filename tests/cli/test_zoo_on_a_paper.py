"""Networks of the zoo under a paper's protocol in one command: their reports, the matrix, and the paper's tables."""

from __future__ import annotations

import csv
from pathlib import Path

from commands import in_a_process
from robusteval.results.run import Run

PROTOCOL = """
name = "sgr-2019"
description = "SGR (2019): a few of its stages"

[budgets]
linf = ["8/255"]

[[attacks]]
method = "pgd"
name = "pgd"
norm = "linf"
budgets = ["8/255"]
preset = "sgr"

[[attacks]]
method = "transfer"
name = "transfer"
norm = "linf"
budgets = ["8/255"]
preset = "sgr-transfer"
"""
ROWS = ["Weight decay 0.005", "SGR (Sigma: gradients), lambda 3"]


def test_two_networks_of_the_zoo_make_the_papers_table(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(PROTOCOL)
    models = ["zoo:weight-decay-digits", "zoo:sgr-digits"]
    asked = ["--data", "digits", "--limit", "4", "--protocol", "short.toml", "--out", "runs"]
    done = in_a_process("audit", *models, *asked, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs"
    page = folder / "paper-sgr-2019.html"
    assert f"Tables of SGR (2019): {page.relative_to(tmp_path)}" in done.stdout
    for name in ("weight-decay-digits", "sgr-digits"):
        assert (folder / name / "report.html").exists()
        assert Run.open(folder / name).manifest.model.training_seconds
    assert (folder / "transfer.md").exists()
    headings, *rows = csv.reader((folder / "tables" / "paper-sgr-2019-table-1-8.csv").open())
    assert [row[0] for row in rows] == ROWS
    assert headings[5:7] == [f"from {row}" for row in ROWS]
    assert [row[5] == "-" for row in rows] == [True, False]
    assert [row[6] == "-" for row in rows] == [False, True]
    text = page.read_text()
    assert all(row in text for row in ROWS)
    assert "robusteval audit zoo:weight-decay-digits zoo:sgr-digits" in text
