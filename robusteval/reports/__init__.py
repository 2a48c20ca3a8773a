"""Reports: a run directory, read by people. Imports no torch, and no plotting library before it draws."""

from __future__ import annotations

from robusteval.analysis.curves import accuracy_curve
from robusteval.analysis.summary import Summary, summarise
from robusteval.reports.papers import paper_tables
from robusteval.reports.papers.write import write_paper_tables
from robusteval.reports.write import write_report

__all__ = ["Summary", "accuracy_curve", "paper_tables", "summarise", "write_paper_tables", "write_report"]
