"""The closest adversarial example of each image, and some that show the range of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robusteval.analysis import names
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm

PLACES = ("closest", "median", "farthest")


@dataclass(frozen=True)
class Example:
    """An adversarial example: its image, the class of that, the class that the model sees instead, its distance, the
    title of the attack that found it, and its place among those of all images: closest, median or farthest."""

    image_id: str
    label: str
    seen_as: str
    norm: Norm
    distance: float
    by: str
    place: str


def closest(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Of each image the row of the table of witnesses with its closest adversarial example in `norm`, the first of
    equals; none of an image without one. Ordered by distance."""
    return rows[rows["success"]].sort_values(norm, kind="stable").drop_duplicates("image_id")


def examples(results: Results, norm: Norm) -> list[Example]:
    """The closest, the median and the farthest of the closest adversarial examples of the images that are classified
    correctly: fewer where fewer were found."""
    right = results.images["image_id"][results.correct]
    found = closest(results.witnesses, norm)
    found = found[found["image_id"].isin(right) & np.isfinite(found[norm])]
    labels = results.images.set_index("image_id")["label"]
    last = len(found) - 1
    chosen = sorted({0, last // 2, last}) if len(found) else []
    return [
        Example(
            image_id=row["image_id"],
            label=results.classes[labels[row["image_id"]]],
            seen_as=results.classes[row["predicted"]],
            norm=norm,
            distance=row[norm],
            by=names.bare(results.titles[row["method"]], norm),
            place=place,
        )
        for place, row in zip(PLACES, found.iloc[chosen].to_dict("records"), strict=False)
    ]
