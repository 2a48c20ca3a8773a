"""What the certificates of a run cover: each of them, and image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.fits import states_of_fits
from robusteval.analysis.intervals import Median, Proportion, median, proportion
from robusteval.analysis.non_finite import Unanswered, unanswered
from robusteval.analysis.results import Results
from robusteval.results.records import CertificateRecord


@dataclass(frozen=True)
class Covered:
    """One certificate: the share of images with a radius above 0, the median of these radii (None where there is none),
    how many images it gives another class than their own, and the share of images with at least each budget of the
    protocol in its norm."""

    record: CertificateRecord
    title: str
    above_zero: Proportion
    median: float | None
    wrong: int
    at_budgets: tuple[tuple[float, Proportion], ...]
    unanswered: Unanswered | None
    """Answers of the model that were not finite, if there were any."""
    rounding: str
    """Where rounding alone leaves nothing to prove, in words; else empty."""


def rounding_of(results: Results, stage: str) -> str:
    """On how many images of a certificate the allowance for rounding exceeds the margin at the image itself, so that
    the radius is 0 for that reason alone, and what to do about it; empty where on none."""
    rows = results.pieces("measurements", ["value"], stage, ["proven_margin"])
    lost = sum(int((piece["value"] <= 0).sum()) for piece in rows)
    if not lost:
        return ""
    advice = "use --dtype float64" if results.manifest.dtype != "float64" else "in float64, too"
    return f"the allowance for rounding exceeds the margin of {show.images(lost)}, whose radius is 0 for that: {advice}"


def covered(results: Results) -> tuple[Covered, ...]:
    """Of each certificate that ran, in the order of the protocol."""
    found = []
    for record in results.certificates_ran:
        radii = results.radii(record.name)
        above = radii[radii > 0]
        budgets = sorted(results.manifest.protocol.budgets.get(record.norm, ()))
        found.append(
            Covered(
                record,
                results.titles[record.name],
                proportion(radii > 0),
                float(np.median(above)) if len(above) else None,
                int(_wrong(results, record).sum()),
                tuple((budget, proportion(radii >= budget)) for budget in budgets),
                unanswered(results, record.name),
                rounding_of(results, record.name),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Spread:
    """The radii that one certificate gives the images it speaks of, whatever class it names: their median, and the
    share of them above 0."""

    record: CertificateRecord
    title: str
    median: Median
    above_zero: float
    fits: tuple[str, ...]
    """What became of its fits, in words, or where rounding left nothing to prove."""


def spreads(results: Results) -> tuple[Spread, ...]:
    """Of each certificate that ran and speaks of any image, in the order of the protocol."""
    found = (
        (record, results.rows("certificates", record.name, ["radius"])["radius"]) for record in results.certificates_ran
    )
    return tuple(
        Spread(
            record,
            results.titles[record.name],
            median(radii),
            float((radii > 0).mean()),
            (*states_of_fits(results, record), *filter(None, [rounding_of(results, record.name)])),
        )
        for record, radii in found
        if len(radii)
    )


def wrong_by_image(results: Results) -> pd.DataFrame:
    """One row an image: whether each certificate speaks for another class than the image's own."""
    columns = {results.titles[record.name]: _wrong(results, record) for record in results.certificates_ran}
    return pd.DataFrame(columns, index=results.images.index)


def _wrong(results: Results, record: CertificateRecord) -> NDArray[np.bool_]:
    found, labels = np.zeros(len(results.images), dtype=bool), results.images["label"].to_numpy()
    for rows in results.pieces("certificates", ["image_id", "predicted", "abstained"], record.name):
        at = results.places_of(rows["image_id"])
        found[at] = (rows["predicted"].to_numpy() != labels[at]) & ~rows["abstained"].to_numpy(bool)
    return found


def radii_by_image(results: Results) -> pd.DataFrame:
    """One row an image: its class, and the radius of each certificate, 0 where it abstains or names another class."""
    images, classes = results.images, results.classes
    found = pd.DataFrame(
        {
            "image_id": images["image_id"],
            "class": [classes[i] for i in images["label"]],
            "predicted": [classes[i] for i in images["predicted"]],
        }
    )
    for record in results.certificates_ran:
        found[results.titles[record.name]] = results.radii(record.name).to_numpy()
    return found
