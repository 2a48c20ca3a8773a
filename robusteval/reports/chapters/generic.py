"""The chapter of a metric that brings none of its own: each of its quantities as a number, and over where it was
measured."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.bands import bands
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import Plot
from robusteval.reports.grid import Grid
from robusteval.results.records import MetricRecord

ROWS = 60
"""Of more numbers the table shows the first of each quantity; the tables of the run have them all."""


def generic_chapter(record: MetricRecord) -> Chapter:
    """Of the metric that a stage of the run measured."""
    method = record.method
    return Chapter(method, record.title, partial(plots, method=method), partial(grids, method=method))


def plots(results: Results, method: str) -> list[Plot]:
    """Of each quantity that was measured at several places, its mean over the images against the place."""
    return [plot for stage in measured_stages(results, method) for plot in _curves(stage)]


def grids(results: Results, method: str) -> list[Grid]:
    """The mean and median over the images of what was measured, and the numbers about the set."""
    return [
        grid for stage in measured_stages(results, method) for grid in (_measured(stage), _counted(stage)) if grid.rows
    ]


def _curves(stage: MeasuredStage) -> list[Plot]:
    places, found = stage.measured.groupby("quantity", sort=False)["at"].nunique(), []
    several = [str(quantity) for quantity in places.index[places > 1]]
    for quantity, title in stage.titles(filter(stage.entry.declares, several)).items():
        caption = f"{title[:1].upper()}{title[1:]}, the mean over the images."
        axes = ("where it was measured", title)
        found.append(bands(stage, f"measured-{quantity}", f"{stage.title}: {title}", caption, [quantity], axes))
    return found


def _measured(stage: MeasuredStage) -> Grid:
    titles = _titles(stage, stage.measured)
    middle = {
        (name, at): values.median() for name, rows in stage.each(titles) for at, values in rows.groupby("at")["value"]
    }
    cells = [
        [
            titles[row["quantity"]],
            show.significant(row["at"]),
            f"{show.significant(row['mean'])} ± {row['standard_error']:.2g}",
            show.significant(float(middle[row["quantity"], row["at"]])),
            f"{row['images']:,}",
        ]
        for row in _shortened(stage.means_of(titles)).to_dict("records")
    ]
    note = "Means over the images with their standard errors."
    return Grid(stage.title, ["Quantity", "at", "mean", "median", "images"], cells, note=note)


def _counted(stage: MeasuredStage) -> Grid:
    rows = stage.statistics
    titles = _titles(stage, rows)
    cells = [
        [titles[row["quantity"]], show.significant(row["at"]), show.significant(row["value"])]
        for row in _shortened(rows).to_dict("records")
    ]
    return Grid(f"{stage.title}, of the whole set", ["Quantity", "at", "value"], cells)


def _titles(stage: MeasuredStage, rows: pd.DataFrame) -> dict[str, str]:
    """Of all quantities in the rows; one that the metric does not declare is called by its name."""
    names = [str(name) for name in rows["quantity"].unique()]
    return dict(zip(names, names, strict=True)) | stage.titles(filter(stage.entry.declares, names))


def _shortened(rows: pd.DataFrame) -> pd.DataFrame:
    """At most ROWS of them, those of each quantity evenly from the first to the last."""
    each = max(1, ROWS // max(1, rows["quantity"].nunique()))
    kept = [
        group.iloc[np.unique(np.linspace(0, len(group) - 1, min(len(group), each)).round().astype(int))]
        for _, group in rows.groupby("quantity", sort=False)
    ]
    return pd.concat(kept) if kept else rows
