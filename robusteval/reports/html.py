"""report.html: one file that needs nothing else and asks nothing of the network."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from robusteval.audit.run import Run, atomically
from robusteval.reports import names, provenance, verdict
from robusteval.reports.contents import IMAGES, VERDICT, contents
from robusteval.reports.drawing import save
from robusteval.reports.exports import write_exports
from robusteval.reports.image_table import image_table
from robusteval.reports.page import render
from robusteval.reports.summary import summarise


def write_report(run: Run) -> Path:
    """Write report.html, figures/ (SVG, PNG and CSV), the reports' own tables (tables/report/*.csv and .tex,
    tables/paper-*, tables/distances.csv) and report.json into a finished run; return the report's path.

    Every name in it is escaped, and a content security policy lets the browser run only the report's own
    script and load only what is embedded.
    """
    summary = summarise(run)
    sections = contents(run, summary)
    write_exports(run, summary, sections)
    page = render(
        "report.html",
        "report.js",
        run=run,
        manifest=run.manifest,
        manifest_text=json.dumps(run.manifest, indent=2, ensure_ascii=False),
        command=shlex.join(run.manifest["command"]),
        summary=summary,
        reading=verdict.reading(summary),
        verdict=verdict.verdict(summary),
        notes=verdict.notes(summary),
        facts=provenance.facts(run),
        first=VERDICT,
        images_at=IMAGES,
        sections=sections,
        drawn={plot.name: save(plot, run.path / "figures") for section in sections for plot in section.plots},
        images=image_table(run),
        names=names,
    )
    path = run.path / "report.html"
    atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path
