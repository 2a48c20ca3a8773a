"""Reports: a run directory, read by people. Imports no torch, and no plotting library before it draws."""

from __future__ import annotations

from pathlib import Path

from robusteval.analysis.curves import accuracy_curve
from robusteval.analysis.results import Results
from robusteval.analysis.summary import Summary, summarise
from robusteval.core.progress import Progress
from robusteval.reports.papers import paper_tables
from robusteval.results.run import Run

__all__ = ["Summary", "accuracy_curve", "paper_tables", "summarise", "write_report"]


def write_report(run: Run | Results, progress: Progress | None = None) -> Path:
    """Write report.html, report.md, report.json, figures/ and the tables of the report into a finished run; return the
    path of report.html."""
    from robusteval.reports import write

    return write.write_report(Results.of(run), progress)
