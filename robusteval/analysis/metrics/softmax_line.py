"""Softmax outputs along lines, class by class."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.metrics.measured import MeasuredStage


def measured_lines(stage: MeasuredStage) -> pd.DataFrame:
    """Columns image_id, class (its number), t, probability."""
    rows = stage.rows("probability_{class}")
    data = pd.DataFrame(
        {
            "image_id": rows["image_id"],
            "class": rows["quantity"].str.removeprefix("probability_").astype(int),
            "t": rows["at"],
            "probability": rows["value"],
        }
    )
    return data.sort_values(["image_id", "class", "t"], ignore_index=True)


def highest_classes(data: pd.DataFrame, least: float, classes: int) -> list[int]:
    """The classes that reach a probability of `least` anywhere on these lines, at most so many: those with the largest
    maxima, in their order."""
    peaks = data.groupby("class")["probability"].max().sort_values(ascending=False, kind="stable")
    return sorted(peaks[peaks >= least].index[:classes])
