"""certification.html: what the certificates of a run promise, image by image, and what they do not, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from numpy.typing import NDArray

from robusteval.analysis import names, show
from robusteval.analysis.certification import covered, radii_by_image, wrong_by_image
from robusteval.analysis.claims_made import claims_made
from robusteval.analysis.curves import evenly
from robusteval.analysis.intervals import proportion
from robusteval.analysis.masking import flags
from robusteval.analysis.results import Results
from robusteval.analysis.sanity import warnings_of
from robusteval.analysis.standing import exacts
from robusteval.core.errors import UserError
from robusteval.core.norms import BALLS
from robusteval.reports.certification.tables import claim_sentence, claims_grid, clean_sentence, share_grid
from robusteval.reports.certification.words import NOT_GUARANTEED, WRONG, statements
from robusteval.reports.figures.distances import coverage
from robusteval.reports.figures.drawing import save_all
from robusteval.reports.formats.page import render
from robusteval.reports.sections.image_table import FAR, ROWS
from robusteval.reports.sections.verdict import exact_sentence
from robusteval.results.below import write_below, write_csv
from robusteval.results.digest import digest
from robusteval.results.records import CertificateRecord
from robusteval.results.run import Run
from robusteval.results.verification import Verification


def write_certification(run: Run | Results, into: Path | None = None, verification: Verification | None = None) -> Path:
    """Write certification.html, tables/certification.csv and the coverage figures into a finished run, or `into`.

    `verification` is a record of this run, of which the page says what it found: such a page lies beside the record,
    outside of the run. Raises UserError if no certificate ran.
    """
    results = Results.of(run)
    folder = into or results.path
    found = covered(results)
    if not found:
        reasons = dict.fromkeys(f": {entry.reason}" for entry in results.manifest.of(CertificateRecord) if entry.reason)
        raise UserError(f"expected a run with a certificate in {results.path}, got none that ran{''.join(reasons)}")
    claims, table = claims_made(results, found), radii_by_image(results)
    write_below(folder, "tables/certification.csv", lambda path: write_csv(path, table))
    places = evenly(np.arange(len(table)), ROWS)
    page = render(
        "certification.html",
        "certification.js",
        manifest=results.manifest,
        digest=digest(results.manifest),
        warnings=warnings_of(results),
        flags=[flag for flag in flags(results) if flag.severity == "serious"],
        clean=clean_sentence(results.manifest.model.name, proportion(results.images["correct"])),
        claimed=[claim_sentence(claim) for claim in {c.guarantee: c for c in reversed(claims)}.values()][::-1],
        exact=_exact(results),
        certified=claims_grid(claims),
        statements=statements(found),
        not_guaranteed=NOT_GUARANTEED,
        verification=verification,
        shares=share_grid(found),
        figures=save_all(coverage(results), folder / "figures"),
        headings=["Name", "Class", "Predicted", *(c.title for c in found)],
        images=_rows(results, table, places),
        left_out=_left_out(len(table)),
        unavailable=[s for s in results.manifest.of(CertificateRecord) if not s.done],
        names=names,
    )
    return write_below(folder, "certification.html", page)


def _exact(results: Results) -> str:
    """How many distances are exact, in a sentence; empty where no attack ran beside the certificates."""
    needed = ["correct", *(f"{end}_{norm}" for norm in BALLS for end in ("proof", "upper"))]
    attacked = [norm for norm in results.norms if norm in results.attacked]
    return exact_sentence(exacts(results.columns("bounds", needed), attacked))


def _left_out(count: int) -> str:
    """A sentence where there are more images than rows."""
    if count <= ROWS:
        return ""
    return f"Of {count:,} images {ROWS:,} are here, evenly by name; tables/certification.csv has all of them."


def _rows(results: Results, table: pd.DataFrame, places: NDArray[np.int64]) -> dict[str, Any]:
    """What the script in the page shows of the images at these places, escaped."""
    wrong_of = wrong_by_image(results).iloc[places].to_numpy()
    norms = [entry.norm for entry in results.certificates_ran]
    rows = []
    for row, wrong in zip(table.iloc[places].itertuples(index=False), wrong_of, strict=True):
        image_id, label, predicted, *radii = row
        named = escape(predicted) if predicted == label else Markup('<b class="wrong">{}</b>').format(predicted)
        cells: list[tuple[str, str | float]] = [
            (escape(image_id), image_id),
            (escape(label), label),
            (named, predicted),
        ]
        cells += [
            (WRONG, -1.0) if elsewhere else (show.lower(radius, norm), min(radius, FAR))
            for radius, norm, elsewhere in zip(radii, norms, wrong, strict=True)
        ]
        rows.append(cells)
    kinds = ["text"] * 3 + ["number"] * len(norms)
    return {"columns": [{"kind": kind, "edge": i == 3} for i, kind in enumerate(kinds)], "rows": rows}
