"""verification.html: what a verification of a run checked, by what, what it did not, and what it found."""

from __future__ import annotations

from pathlib import Path

from robusteval.reports.formats.page import render
from robusteval.reports.grid import Grid
from robusteval.results.below import write_below
from robusteval.results.verification import Verification


def write_verification(record: Verification, folder: Path) -> Path:
    """Write verification.json and verification.html; return the path of the first."""
    page = render("verification.html", "papers.js", record=record, checked=checked_grid(record))
    texts = {"verification.json": record.as_text(), "verification.html": page}
    for name, text in texts.items():
        write_below(folder, name, text)
    return folder / "verification.json"


def checked_grid(record: Verification) -> Grid:
    """What was held against what, and how many values."""
    rows = [[entry.what, f"{entry.values:,}"] for entry in record.checked]
    rows.append(["all", f"{record.values:,}"])
    return Grid("What was checked", ["Against what", "values"], rows, text=1, name="checked")
