"""report.html: one file that needs nothing else and asks nothing of the network."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from robusteval.audit.run import Run, atomically
from robusteval.reports import distances, names, papers, sections
from robusteval.reports.chapters import CHAPTERS
from robusteval.reports.drawing import save
from robusteval.reports.figures import plots
from robusteval.reports.headline import guarantees, headline
from robusteval.reports.image_table import image_table
from robusteval.reports.page import render
from robusteval.reports.summary import summarise
from robusteval.reports.thumbnails import LIMIT


def write_report(run: Run) -> Path:
    """Write report.html, figures/ (SVG, PNG and CSV) and the reports' own tables (tables/distances.csv and
    tables/paper-*.csv) into a finished run; return the report's path.

    Every name in it is escaped, and a content security policy lets the browser run only the report's own
    script and load only what is embedded.
    """
    summary, reaches, published = summarise(run), distances.reaches(run), papers.paper_tables([run])
    papers.write_tables(run, published)
    table = distances.frame(reaches)
    atomically(run.path / "tables" / "distances.csv", lambda temporary: table.to_csv(temporary, index=False))
    figures = {section: [(p, save(p, run.path / "figures")) for p in found] for section, found in plots(run).items()}
    page = render(
        "report.html",
        "report.js",
        run=run,
        manifest=run.manifest,
        manifest_text=json.dumps(run.manifest, indent=2, ensure_ascii=False),
        command=shlex.join(run.manifest["command"]),
        summary=summary,
        headline=headline(summary),
        guarantees=guarantees(summary),
        verdict=sections.verdict(summary),
        notes=sections.notes(summary),
        attacks=sections.attacks(summary),
        distances=sections.distances(run, reaches),
        papers=published,
        paper_title=papers.title(run) if published else "",
        certificates=sections.certificates(run),
        calibration=sections.calibration(summary),
        costs=sections.costs(summary),
        facts=sections.facts(run),
        figures=figures,
        chapters=[(c, tables) for c in CHAPTERS if (tables := c.grids(run)) or figures[c.method]],
        images=image_table(run),
        thumbnail_limit=LIMIT,
        names=names,
    )
    path = run.path / "report.html"
    atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path
