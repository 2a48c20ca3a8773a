"""The closest adversarial example of each image, and some that show the range of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import names
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.results.tables import WITNESSES_TABLE

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


def closest_of(results: Results, norm: str, places: NDArray[np.int64]) -> pd.DataFrame:
    """Of some images, by their places among all, the row of the table of witnesses with the closest adversarial example
    in `norm`: image_id, method, budget, predicted and the distance. None of an image without one, or misclassified."""
    column = f"upper_{norm}_method"
    by, ids = results.columns("bounds", [column])[column].iloc[places], results.images["image_id"].iloc[places]
    found: list[pd.DataFrame] = []
    for stage in (e.name for e in results.attacks_ran if (by == e.name).any()):
        own = ids[by == stage]
        pieces = results.pieces("witnesses", ["image_id", "budget", "success", norm, "predicted"], stage)
        found += [rows[rows["image_id"].isin(own)].assign(method=stage) for rows in pieces]
    return closest(pd.concat(found), norm) if found else WITNESSES_TABLE.frame()


def examples(results: Results, norm: Norm) -> list[Example]:
    """The closest, the median and the farthest of the closest adversarial examples of the images that are classified
    correctly: fewer where fewer were found."""
    bounds = results.columns("bounds", [f"upper_{norm}", f"upper_{norm}_method"])
    far = bounds[f"upper_{norm}"].to_numpy(np.float64)
    places = np.flatnonzero(results.correct & np.isfinite(far))
    # Of equals those of the first attack first.
    attack = pd.Categorical(bounds[f"upper_{norm}_method"].iloc[places], [e.name for e in results.attacks_ran]).codes
    places = places[np.lexsort((places, attack, far[places]))]
    last = len(places) - 1
    chosen = places[sorted({0, last // 2, last})] if len(places) else places
    found = closest_of(results, norm, chosen).set_index("image_id")
    images = results.images.iloc[chosen]
    return [
        Example(
            image_id=image_id,
            label=results.classes[label],
            seen_as=results.classes[found.loc[image_id, "predicted"]],
            norm=norm,
            distance=found.loc[image_id, norm],
            by=names.bare(results.titles[found.loc[image_id, "method"]], norm),
            place=place,
        )
        for place, image_id, label in zip(PLACES, images["image_id"], images["label"], strict=False)
        if image_id in found.index
    ]
