"""Reports: a run directory, read by people. Imports no torch, and no plotting library before it draws."""

from __future__ import annotations

from pathlib import Path

from robusteval.audit.run import Run
from robusteval.reports.curves import accuracy_curve
from robusteval.reports.papers import paper_tables
from robusteval.reports.summary import Summary, summarise

__all__ = ["Summary", "accuracy_curve", "paper_tables", "summarise", "write_markdown", "write_report"]


def write_report(run: Run) -> Path:
    """Write report.html and figures/ into a finished run; return the report's path."""
    from robusteval.reports import html

    return html.write_report(run)


def write_markdown(run: Run) -> Path:
    """Write report.md into a finished run; return its path."""
    from robusteval.reports import markdown

    return markdown.write_markdown(run)
