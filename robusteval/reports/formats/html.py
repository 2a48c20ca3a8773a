"""report.html: one file that needs nothing else and asks nothing of the network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from robusteval.reports.formats.page import render
from robusteval.reports.sections import provenance, verdict
from robusteval.reports.sections.contents import IMAGES, Contents
from robusteval.reports.sections.image_table import image_table


def as_html(report: Contents, drawn: Mapping[str, str]) -> str:
    """The page, with its figures as SVG by name.

    Every name in it is escaped, and a content security policy lets the browser run only the report's own
    script and load only what is embedded.
    """
    results, summary = report.results, report.summary
    top, *sections = report.sections
    return render(
        "report.html",
        "report.js",
        manifest=results.manifest,
        manifest_text=results.manifest.as_text(),
        command=shlex.join(results.manifest.command),
        summary=summary,
        reading=verdict.reading(summary),
        verdict=verdict.verdict(summary),
        notes=verdict.notes(summary),
        facts=provenance.facts(results),
        images_at=IMAGES,
        top=top,
        sections=sections,
        drawn=drawn,
        images=image_table(results),
    )
