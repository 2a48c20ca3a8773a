"""report.html: one file that needs nothing else and asks nothing of the network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import pandas as pd

from robusteval.analysis import show
from robusteval.reports.figures.standing import PARTS
from robusteval.reports.figures.thumbnails import main_norm, thumbnails
from robusteval.reports.formats.page import render
from robusteval.reports.sections.contents import IMAGES, Contents
from robusteval.reports.sections.image_table import image_table


def as_html(report: Contents, drawn: Mapping[str, str]) -> str:
    """The page, with its figures as SVG by name.

    Every name in it is escaped, and a content security policy lets the browser run only the report's own
    script and load only what is embedded.
    """
    manifest = report.results.manifest
    top, *sections = report.sections
    images = image_table(report.results)
    results, names = report.results, pd.Series([e.image_id for e in report.examples], dtype="str")
    shown = thumbnails(results, main_norm(results), results.places_of(names))
    pictures = {i: (own.image, own.witness, own.perturbation) for i, own in shown.items()}
    return render(
        "report.html",
        "report.js",
        manifest=manifest,
        manifest_text=manifest.as_text(),
        command=shlex.join(manifest.command),
        summary=report.summary,
        report=report,
        images_at=IMAGES,
        top=top,
        sections=sections,
        drawn=drawn,
        images=images,
        examples=[(e, pictures.get(e.image_id, ("", "", "")), show.upper(e.distance, e.norm)) for e in report.examples],
        parts=[
            (key, title) for key, (title, _) in PARTS.items() if any(getattr(s, key) for s in report.summary.standings)
        ],
    )
