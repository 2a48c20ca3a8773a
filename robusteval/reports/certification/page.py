"""certification.html: what the certificates of a run promise, image by image, and what they do not, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from robusteval.analysis import names, show
from robusteval.analysis.certification import Covered, covered, radii_by_image, wrong_by_image
from robusteval.analysis.masking import flags
from robusteval.analysis.results import Results
from robusteval.analysis.sanity import warnings_of
from robusteval.analysis.show import Round
from robusteval.core.errors import UserError
from robusteval.reports.figures.distances import coverage
from robusteval.reports.figures.drawing import save_all
from robusteval.reports.formats.page import render
from robusteval.reports.grid import Grid
from robusteval.reports.sections.image_table import FAR
from robusteval.results.below import as_csv, write_below
from robusteval.results.digest import digest
from robusteval.results.records import CertificateRecord
from robusteval.results.run import Run

NOT_GUARANTEED = (
    "Images outside this list: the shares say, with their intervals, what to expect of others like them, no more.",
    "Perturbations beyond a radius, or measured otherwise: rotations, crops, compression, norms other than named.",
    "Other weights, another preprocessing or arithmetic than those of this model file (fingerprint below).",
    "That the class is right: a radius around a wrong class is worth nothing, and counts as 0 here.",
)
"""What no certificate of any run says."""
WRONG = "wrong class"
"""Instead of a radius: of an image that is given another class than its own nothing is open."""


@dataclass(frozen=True)
class Statement:
    """One certificate: its title, its kind, what it says of an image with radius r, and what it leaves open."""

    title: str
    kind: str
    says: str
    leaves_open: str
    covers: str


def write_certification(run: Run | Results, into: Path | None = None) -> Path:
    """Write certification.html, tables/certification.csv and the coverage figures into a finished run, or `into`.

    Raises UserError if no certificate ran.
    """
    results = Results.of(run)
    folder = into or results.path
    found = covered(results)
    if not found:
        reasons = dict.fromkeys(f": {entry.reason}" for entry in results.manifest.of(CertificateRecord) if entry.reason)
        raise UserError(f"expected a run with a certificate in {results.path}, got none that ran{''.join(reasons)}")
    table = radii_by_image(results)
    write_below(folder, "tables/certification.csv", as_csv(table))
    page = render(
        "certification.html",
        "certification.js",
        manifest=results.manifest,
        digest=digest(results.manifest),
        warnings=warnings_of(results),
        flags=[flag for flag in flags(results) if flag.severity == "serious"],
        statements=[state(certificate) for certificate in found],
        not_guaranteed=NOT_GUARANTEED,
        shares=share_grid(found),
        figures=save_all(coverage(results), folder / "figures"),
        headings=["Name", "Class", "Predicted", *(s.title for s in found)],
        images=_rows(results, table),
        unavailable=[s for s in results.manifest.of(CertificateRecord) if not s.done],
        names=names,
    )
    return write_below(folder, "certification.html", page)


def state(found: Covered) -> Statement:
    """What one certificate says."""
    share, record = found.above_zero, found.record
    covers = f"{share.count:,} of {share.n:,} images have a radius above 0"
    if found.median is not None:
        covers += f"; their median radius is {show.lower(found.median, record.norm)}"
    if found.wrong:
        covers += f"; {found.wrong:,} {'is' if found.wrong == 1 else 'are'} given a {WRONG}"
    if found.rounding:
        covers += f"; {found.rounding}"
    says, leaves_open = _words(record, record.norm.symbol)
    covers += "." if found.unanswered is None else f". {found.unanswered}"
    return Statement(found.title, record.guarantee, says, leaves_open, covers)


def _words(entry: CertificateRecord, norm: str) -> tuple[str, str]:
    subject = names.subject(entry.subject)
    match entry.guarantee:
        case "proof":
            return (
                f"No image with pixels in [0, 1] within {norm} distance r of the image gets another class from "
                f"{subject}. This is a mathematical proof: it holds for every attack, known or not, and allows for the "
                "rounding of the network's arithmetic.",
                "Radius 0 says nothing: the image may be robust, the proof does not decide it. Images that are "
                f"misclassified as they are read '{WRONG}'.",
            )
        case "confidence":
            return (
                f"No image within {norm} distance r changes the class that {subject} gives the image: the class "
                "which the model names most often when Gaussian noise is added. For each image this is wrong with a "
                f"probability of at most {entry.alpha:g}, from the noise that was drawn.",
                "It does not speak of the model used without that noise. To be protected, classify by the same "
                "majority vote. Of many images a share of alpha may be wrong without any sign of it.",
            )
        case _:
            return (
                f"An estimate of how far in {norm} the image is from another class, from an extreme value fitted to "
                "samples of the model's gradients. It guarantees nothing.",
                "An attack may well succeed within r; where one of this run did, the report lists a contradiction.",
            )


def share_grid(certificates: Sequence[Covered]) -> Grid:
    """Certified accuracy: images classified correctly with at least each radius, for each certificate."""
    rows = []
    for found in certificates:
        record = found.record
        for radius, share in found.at_budgets:
            shown = [show.percent(share.value, Round.DOWN), show.percents(share.low, share.high)]
            said = [found.title, record.guarantee, names.subject(record.subject), names.at(record.norm, radius)]
            rows.append([*said, *shown])
    headings = ["Certificate", "guarantee", "speaks of", "radius at least", "images", "95 % interval"]
    note = "Images that are classified correctly with at least that radius, rounded down; intervals over images."
    return Grid("Certified accuracy", headings, rows, text=4, note=note)


def _rows(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """What the script in the page shows, escaped."""
    norms = [entry.norm for entry in results.certificates_ran]
    rows = []
    for row, wrong in zip(table.itertuples(index=False), wrong_by_image(results).to_numpy(), strict=True):
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
