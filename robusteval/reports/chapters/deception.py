"""The witness of each class whose wrong prediction is the most confident."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from robusteval.analysis.intervals import mean_share
from robusteval.analysis.metrics.deception import deceptive, most_deceptive
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.analysis.show import fixed, percent
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.figures.mosaic import COLUMNS, Mosaic, Tile, short
from robusteval.reports.figures.thumbnails import read_closest
from robusteval.reports.grid import Grid
from robusteval.results.files import Arrays, read_arrays
from robusteval.results.keeping import number_left_out
from robusteval.results.records import CLEAN

CLASSES = 20
"""Of more classes only the first so many that have a witness are drawn."""


def plots(results: Results) -> list[Plot]:
    return [plot for stage in measured_stages(results, "deception") for plot in _images(stage)]


def grids(results: Results) -> list[Grid]:
    """The mean confidence of all witnesses, a row for each attack."""
    rows = []
    for stage in measured_stages(results, "deception"):
        table = deceptive(stage)
        if len(table):
            middle, highest = mean_share(table["confidence"]), fixed(table["confidence"].max(), 3)
            interval = f"{fixed(middle.low, 3)} to {fixed(middle.high, 3)}"
            rows.append([stage.attack, fixed(middle.value, 3), interval, highest, f"{len(table):,}"])
    headings = ["Attack", "mean confidence", "95 % interval", "highest", "witnesses"]
    note = (
        "Softmax probability of the wrong class that the model predicts at the closest witness. An attack that "
        "searches the closest one ends at the boundary, where two classes share the probability."
    )
    return [Grid("Confidence of the wrong prediction", headings, rows, note=note)] if rows else []


def witnesses(stage: MeasuredStage, ids: Collection[str]) -> Arrays:
    """By image id, the witnesses that were measured: the closest of the stage's attack, in its own norm."""
    rows = stage.results.pieces("witnesses", None, stage.settings["witnesses"])
    own = pd.concat([piece[piece["image_id"].isin(ids)] for piece in rows], ignore_index=True)
    if own.empty:
        return {}
    return {
        i: witness for i, _, witness in read_closest(stage.results, own["norm"].iloc[0], own) if witness is not None
    }


def images_of(results: Results, ids: Collection[str]) -> Arrays:
    """Some images, by their ids."""
    return {i: image for file in results.run.array_files(CLEAN) for i, image in read_arrays(file, ids).items()}


def _images(stage: MeasuredStage) -> list[Plot]:
    best = most_deceptive(stage).head(CLASSES)
    ids = best["image_id"].tolist()
    images, found = images_of(stage.results, ids), witnesses(stage, ids)
    best = best[best["image_id"].isin(images)]
    return [_plot(stage, best[i : i + COLUMNS], i, images, found) for i in range(0, len(best), COLUMNS)]


def _plot(stage: MeasuredStage, data: pd.DataFrame, first: int, images: Arrays, found: Arrays) -> Plot:
    shown = data.to_dict("records")
    tiles = [
        [_tile(images, row["image_id"]) for row in shown],
        [_tile(found, row["image_id"], f"{short(row['seen'], 11)}\n{percent(row['confidence'])}") for row in shown],
    ]
    mosaic = Mosaic(tiles, ["image", "witness"], data["original"].tolist(), "", "true class")
    caption = (
        f"For each class the image whose closest witness by {stage.attack} is misclassified with the highest "
        "confidence; below it the class that the model sees and its softmax probability. The paper averages the "
        "confidence over its models; here it is that of one. Classes without a witness are left out."
    )
    if number_left_out(stage.results.manifest):
        caption += " So are those whose image the run does not keep."
    title = f"{stage.entry.title}: {stage.attack} (SmoothKernels, figures 2 and 38)"
    name = f"images-{stage.label}" + (f"-{first // COLUMNS + 1}" if first else "")
    return Plot(name, title, caption, data, mosaic.draw, mosaic.height)


def _tile(arrays: Arrays, image_id: str, note: str = "") -> Tile | None:
    return Tile(arrays[image_id], note) if image_id in arrays else None


CHAPTER = Chapter("deception", "Deception", plots, grids)
