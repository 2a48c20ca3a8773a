"""The tables of a report for other programs and for papers: CSV, LaTeX, and all of it as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from robusteval.audit.run import Run, atomically
from robusteval.reports import distances, latex, verdict
from robusteval.reports.contents import Section
from robusteval.reports.grid import csv_text
from robusteval.reports.headline import headline
from robusteval.reports.summary import Summary

VERSION = 1
"""Of the format of report.json."""


def write_exports(run: Run, summary: Summary, sections: Sequence[Section]) -> None:
    """Write each table as shown, as tables/report/<table>.csv and .tex, those in a paper's layout as
    tables/paper-<protocol>-<table>; tables/distances.csv; and report.json."""
    texts = {"report.json": json.dumps(as_json(run, summary, sections), indent=1, ensure_ascii=False, allow_nan=False)}
    for section in sections:
        prefix = f"paper-{summary.protocol}-" if section.key == "paper" else "report/"
        for grid in section.grids:
            texts[f"tables/{prefix}{grid.key}.csv"] = csv_text(grid)
            texts[f"tables/{prefix}{grid.key}.tex"] = latex.table(grid)
    texts["tables/distances.csv"] = distances.frame(distances.reaches(run)).to_csv(index=False)
    for name, text in texts.items():
        atomically(run.path / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]


def as_json(run: Run, summary: Summary, sections: Sequence[Section]) -> dict[str, Any]:
    """The headline in full precision and as shown (null is infinity: no witness found), what to know before believing
    it, and every table as shown."""
    return {
        "format": "robusteval report",
        "version": VERSION,
        "model": summary.model,
        "fingerprint": run.manifest["model"]["fingerprint"],
        "data": summary.data,
        "data_fingerprint": run.manifest["data"]["fingerprint"],
        "protocol": summary.protocol,
        "verdict": verdict.verdict(summary),
        "headline": [
            {key: None if isinstance(v, float) and math.isinf(v) else v for key, v in vars(line).items()}
            for line in headline(summary)
        ],
        "masking": [{k: v for k, v in vars(flag).items() if k != "title"} for flag in summary.flags],
        "notes": verdict.notes(summary),
        "tables": [
            {"section": s.title, "title": g.title, "headings": g.headings, "rows": g.rows, "note": g.note}
            for s in sections
            for g in s.grids
        ],
    }
