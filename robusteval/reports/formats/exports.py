"""The tables of a report for other programs and for papers: CSV, LaTeX, and all of it as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from robusteval.analysis import distances
from robusteval.analysis.headline import headline_of
from robusteval.core.foreign import dead
from robusteval.reports.formats import latex
from robusteval.reports.grid import Grid
from robusteval.reports.sections.contents import Contents
from robusteval.reports.sections.verdict import verdict
from robusteval.results.below import as_csv

VERSION = 1
"""Of the format of report.json."""


def exports(report: Contents) -> dict[str, str]:
    """By file: each table as shown, as tables/report/<table>.csv and .tex, those in a paper's layout as
    tables/paper-<protocol>-<table>; tables/distances.csv; and report.json."""
    found = {"report.json": json.dumps(as_json(report), indent=1, ensure_ascii=False, allow_nan=False)}
    for section in report.sections:
        prefix = f"paper-{report.summary.protocol}-" if section.key == "paper" else "report/"
        for grid in section.grids:
            found[f"tables/{prefix}{grid.key}.csv"] = csv_text(grid)
            found[f"tables/{prefix}{grid.key}.tex"] = latex.table(grid)
    found["tables/distances.csv"] = as_csv(distances.frame(report.distances.reaches))
    return found


def csv_text(grid: Grid) -> str:
    """Headings and rows, as shown; a foreign text that a spreadsheet would compute gets an apostrophe."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(dead, row) for row in (grid.headings, *grid.rows)])
    return text.getvalue()


def as_json(report: Contents) -> dict[str, Any]:
    """The headline in full precision and as shown (null is infinity: no witness found), what qualifies it,
    and every table as shown."""
    results, summary = report.results, report.summary
    return {
        "format": "robusteval report",
        "version": VERSION,
        "model": summary.model,
        "fingerprint": results.manifest.model.fingerprint,
        "data": summary.data,
        "data_fingerprint": results.manifest.data.fingerprint,
        "protocol": summary.protocol,
        "verdict": verdict(report.summary),
        "headline": [
            {key: None if isinstance(v, float) and math.isinf(v) else v for key, v in vars(line).items()}
            for line in headline_of(summary)
        ],
        "masking": [vars(flag) for flag in summary.flags],
        "unchecked": report.unchecked,
        "notes": report.notes,
        "tables": [
            {"section": s.title, "title": g.title, "headings": g.headings, "rows": g.rows, "note": g.note}
            for s in report.sections
            for g in s.grids
        ],
    }
