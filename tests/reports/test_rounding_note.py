"""A radius that is 0 for rounding alone is said to be, on the terminal, in the report and on the certification page."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from rich.console import Console

from propagating import F64, deep
from robusteval.analysis.certification import spreads
from robusteval.analysis.results import Results
from robusteval.analysis.summary import summarise
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.reports.certification.page import write_certification
from robusteval.reports.formats.terminal import headline_table
from robusteval.reports.write import write_report

PROTOCOL = """
[budgets]
linf = [0.01]
[[certificates]]
method = "ibp"
norm = "linf"
[[certificates]]
method = "crown"
norm = "linf"
tolerance = 0.9
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_that_leaves_nothing_is_said_with_what_to_do(dtype: str, tmp_path: Path) -> None:
    classifier, images = deep(9, 6, 5, torch.float32 if dtype == "float32" else F64)
    run = run_audit(
        classifier, images, parse_protocol(tomllib.loads(PROTOCOL), "rounding"), tmp_path / "run", dtype=dtype
    )
    console = Console(width=100, record=True)
    console.print(headline_table(summarise(run)))
    terminal = " ".join(console.export_text().split())
    pages = [write_report(run).read_text(), write_certification(run).read_text()]
    words = "the allowance for rounding exceeds the margin of 1 image, whose radius is 0 for that: use --dtype float64"
    rounded = dtype == "float32"
    assert (f"IBP (proof), Linf: {words}" in terminal) is rounded
    assert all((words in page) is rounded for page in pages)
    ibp, crown = spreads(Results(run))
    assert (ibp.above_zero, crown.above_zero) == (0.0 if rounded else 1.0, 1.0)
    assert crown.fits == ()
