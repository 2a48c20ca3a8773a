"""Shares of images that keep their prediction under noise, with their intervals."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.intervals import Mean, mean_share, proportion
from robusteval.analysis.metrics.measured import MeasuredStage

AREAS = {"kept": "noise_area", "kept_single": "noise_area_single", "kept_probability": "noise_area_probability"}
"""The ways to say that an image keeps its prediction -> the area under that curve."""


def shares(stage: MeasuredStage) -> pd.DataFrame:
    """Columns quantity, sigma, share, low, high: each way against the standard deviation of the noise."""
    points = []
    for quantity in AREAS:
        # A share of copies is a number between 0 and 1 for each image, the others are 0 or 1.
        interval = mean_share if quantity == "kept_probability" else proportion
        for sigma, values in stage.rows(quantity, columns=["at", "value"]).groupby("at", sort=True)["value"]:
            share = interval(values)
            points.append((quantity, sigma, share.value, share.low, share.high))
    return pd.DataFrame(points, columns=["quantity", "sigma", "share", "low", "high"])


def areas(stage: MeasuredStage) -> dict[str, Mean]:
    """The mean area of each way that was measured."""
    values = {quantity: stage.values(area) for quantity, area in AREAS.items()}
    return {quantity: mean_share(found) for quantity, found in values.items() if len(found)}
