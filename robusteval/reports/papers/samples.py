"""SGR's figure 3 (right): images under long-range correlated noise that fools the model, by its decay length."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robusteval.analysis.results import Results
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.figures.mosaic import Mosaic, Tile, short
from robusteval.reports.figures.thumbnails import Array, read_closest, rescaled
from robusteval.reports.papers.sgr import AT, LRC, ZETAS
from robusteval.results.tables import WITNESSES_TABLE

EACH = 2
"""Examples of each decay length."""


def sample_plots(results: Results) -> list[Plot]:
    """One figure, of the decay lengths whose noise fooled an image; none where no noise did."""
    found = [(zeta, *sample) for zeta in ZETAS for sample in _samples(results, f"{LRC}-{zeta}")]
    if not found:
        return []
    rows = pd.DataFrame([(zeta, i, shown) for zeta, i, _, _, shown in found], columns=["zeta", "image_id", "predicted"])
    tiles = [
        [Tile(image) for _, _, image, _, _ in found],
        [Tile(witness, short(shown, 11)) for _, _, _, witness, shown in found],
        [Tile(rescaled(witness - image)) for _, _, image, witness, _ in found],
    ]
    mosaic = Mosaic(
        tiles, ["image", "perturbed", "added"], [f"{zeta}" for zeta, *_ in found], "", "decay length, pixels"
    )
    caption = (
        f"The first images, by id, that the worst of 100 draws at eps = {AT:g} fooled, with the class seen; "
        "below, what was added, rescaled to the full range of pixels."
    )
    title = "Long-range correlated noise (SGR, figure 3, right)"
    return [Plot("paper-figure-3-right", title, caption, rows, mosaic.draw, mosaic.height)]


def _samples(results: Results, stage: str) -> Sequence[tuple[str, Array, Array, str]]:
    """Of a stage: image id, image, witness and the class seen there, of its first few witnesses."""
    broken = WITNESSES_TABLE.frame()
    for own in results.pieces("witnesses", None, stage):
        first = own[own["success"].to_numpy() & results.correct[results.places_of(own["image_id"])]].head(EACH)
        broken = pd.concat([broken, first], ignore_index=True).head(EACH)
        if len(broken) == EACH:
            break
    seen = dict(zip(broken["image_id"], broken["predicted"], strict=True))
    kept = read_closest(results, "l2", broken)
    return [(i, image, witness, results.classes[seen[i]]) for i, image, witness in kept if witness is not None]
