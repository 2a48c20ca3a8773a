"""verification.html: what a verification of a run checked, by what, what it did not, and what it found."""

from __future__ import annotations

from pathlib import Path

from robusteval.reports.formats.page import render
from robusteval.reports.grid import Grid
from robusteval.results.run import atomically
from robusteval.results.verification import Verification


def write_verification(record: Verification, folder: Path) -> Path:
    """Write verification.json and verification.html; return the path of the first."""
    page = render("verification.html", "papers.js", record=record, checked=checked_grid(record))
    texts = {"verification.json": record.as_text(), "verification.html": page}
    for name, text in texts.items():
        atomically(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return folder / "verification.json"


def checked_grid(record: Verification) -> Grid:
    """What was checked, how, and how many values."""
    rows = [[entry.what, entry.by, f"{entry.values:,}"] for entry in record.checked]
    rows.append(["all", "", f"{record.values:,}"])
    return Grid("What was checked", ["Values", "how", "number"], rows, text=2, name="checked")
