"""The schemas of the tables that a run holds: columns, types, units. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from robusteval.core.norms import BALLS, Norm
from robusteval.results.exact import EXACT_COLUMNS, WITHIN

_DTYPES: dict[type, str] = {str: "str", bool: "bool", int: "int64", float: "float64"}


@dataclass(frozen=True)
class Column:
    name: str
    type: type
    meaning: str


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]

    def frame(self, data: dict[str, Any] | None = None) -> pd.DataFrame:
        """A data frame with exactly these columns, in this order, in these types."""
        frame = pd.DataFrame(data or {}, columns=self.names)
        wanted = {c.name: _DTYPES[c.type] for c in self.columns}
        others = {name: wanted[name] for name, found in zip(wanted, frame.dtypes, strict=True) if found != wanted[name]}
        return frame.astype(others) if others else frame


_IMAGE = Column("image_id", str, "the image's name in its data set")
_METHOD = Column("method", str, "the method's label in the protocol")

IMAGES_TABLE = Table(
    "images",
    (
        _IMAGE,
        Column("label", int, "true class"),
        Column("predicted", int, "class that the model predicts"),
        Column("correct", bool, "predicted == label"),
        Column("logit_margin", float, "logit of the label minus the largest other logit"),
        Column("probability_margin", float, "the same of the softmax outputs"),
    ),
)

WITNESSES_TABLE = Table(
    "witnesses",
    (
        _IMAGE,
        _METHOD,
        Column("norm", str, "norm that the attack minimises or is bounded in"),
        Column("budget", float, "radius it was given, pixel units; NaN for minimum-distance attacks"),
        Column("success", bool, "the judge found the image misclassified, inside the box and the budget"),
        Column("l0", float, "pixel values changed; infinite for a failed attack"),
        Column("l1", float, "L1 distance in pixel units; infinite for a failed attack"),
        Column("l2", float, "L2 distance in pixel units; infinite for a failed attack"),
        Column("linf", float, "Linf distance in pixel units; infinite for a failed attack"),
        Column("predicted", int, "class predicted on the witness; the label where there is none"),
        Column("forwards", float, "forward evaluations of this image"),
        Column("backwards", float, "backward evaluations of this image"),
    ),
)

CERTIFICATES_TABLE = Table(
    "certificates",
    (
        _IMAGE,
        _METHOD,
        Column("subject", str, "the classifier the bound speaks of: f, or smooth(f, sigma)"),
        Column("norm", str, "norm of the radius"),
        Column("kind", str, "proof, confidence or estimate"),
        Column("radius", float, "pixel units; 0 where nothing is certified"),
        Column("alpha", float, "probability of error of a confidence bound; NaN for other kinds"),
        Column("predicted", int, "class that the certificate speaks for"),
        Column("abstained", bool, "the certificate declined to name a class"),
    ),
)

STATISTICS_TABLE = Table(
    "statistics",
    (
        _METHOD,
        Column("quantity", str, "what was measured over the whole set"),
        Column("at", float, "where on its axis (a radius, an index); 0 if it has none"),
        Column("value", float, "the number"),
    ),
)

MEASUREMENTS_TABLE = Table("measurements", (_IMAGE, *STATISTICS_TABLE.columns))

BOUNDS_TABLE = Table(
    "bounds",
    (
        _IMAGE,
        Column("label", int, "true class"),
        Column("predicted", int, "class that the model predicts"),
        Column("correct", bool, "predicted == label"),
        *(
            column
            for norm in Norm
            for column in (
                Column(f"upper_{norm}", float, f"smallest {norm} distance of any witness; infinite if none"),
                Column(f"upper_{norm}_method", str, "the attack that found it; empty if none"),
            )
        ),
        *(
            column
            for kind, meaning in (("proof", "proven radius"), ("confidence", "radius that holds with confidence"))
            for norm in BALLS
            for column in (
                Column(f"{kind}_{norm}", float, f"largest {meaning} in {norm} around the label; 0 if none"),
                Column(f"{kind}_{norm}_method", str, "the certificate it comes from; empty if none"),
            )
        ),
        *(
            Column(name, bool, f"the closest witness lies at most {WITHIN} farther than the proven radius in {norm}")
            for norm, name in EXACT_COLUMNS.items()
        ),
        Column("contradictions", str, "certificates above a witness of the same norm; empty if none"),
    ),
)
"""Behind these columns stands one column `lower_<method>` for each certificate of the run, pixel units, and one column
`calibrated_<method>` for each calibrated estimate, NaN for the images that it was calibrated on."""

CALIBRATION_TABLE = Table(
    "calibration",
    (
        _METHOD,
        Column("norm", str, "norm of the estimate"),
        Column("delta", float, "share of images on which the calibrated bound may exceed the closest witness"),
        Column("calibrating", int, "images that the factor was chosen on"),
        Column("factor", float, "what the estimate is multiplied with, at most 1; 0 if too few images calibrate"),
        Column("tested", int, "other images with an estimate above zero"),
        Column("violated_before", int, "of those, images whose estimate exceeds the closest witness"),
        Column("violated_after", int, "the same of the calibrated estimate"),
    ),
)

TABLES = {
    table.name: table
    for table in (
        IMAGES_TABLE,
        WITNESSES_TABLE,
        CERTIFICATES_TABLE,
        MEASUREMENTS_TABLE,
        STATISTICS_TABLE,
        BOUNDS_TABLE,
        CALIBRATION_TABLE,
    )
}
