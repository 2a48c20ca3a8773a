"""All forms of a report, written into the run that it is about."""

from __future__ import annotations

from pathlib import Path

from robusteval.analysis.results import Results
from robusteval.core.progress import Progress, Silent
from robusteval.reports.figures.drawing import save_all
from robusteval.reports.formats.exports import exports
from robusteval.reports.formats.html import as_html
from robusteval.reports.formats.markdown import as_markdown
from robusteval.reports.sections.contents import contents
from robusteval.results.below import write_below
from robusteval.results.run import Run


def write_report(run: Run | Results, progress: Progress | None = None, into: Path | None = None) -> Path:
    """Write report.html, report.md, report.json, figures/ (SVG, PNG and CSV) and the tables of the report into a
    finished run, or into the folder `into`; return the path of report.html."""
    results = Results.of(run)
    folder = into or results.path
    report = contents(results)
    plots = [plot for section in report.sections for plot in section.plots]
    told = progress or Silent()
    told.stage("figures", 0, len(plots))
    drawn = {plot.name: svg for plot, svg in save_all(plots, folder / "figures", told.advance)}
    texts = {"report.html": as_html(report, drawn), "report.md": as_markdown(report), **exports(report)}
    for name, text in texts.items():
        write_below(folder, name, text)
    return folder / "report.html"
