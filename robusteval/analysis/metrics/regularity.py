"""How gradient norms, curvatures and moduli are spread over the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from robusteval.analysis.curves import STEPS, evenly
from robusteval.analysis.intervals import Mean, mean
from robusteval.analysis.metrics.measured import MeasuredStage

CURVATURE = "curvature"


def distributions(stage: MeasuredStage, quantities: Sequence[str]) -> pd.DataFrame:
    """Columns quantity, value, share: of the images with a value, the share of those at or below it; of more than STEPS
    values so many, evenly from the smallest to the largest."""
    parts = []
    for quantity in quantities:
        values = np.sort(stage.values(quantity))
        rank = evenly(np.arange(1.0, len(values) + 1), STEPS)
        share = rank / max(len(values), 1)
        parts.append(pd.DataFrame({"quantity": quantity, "value": values[rank.astype(int) - 1], "share": share}))
    return pd.concat(parts, ignore_index=True)


def spreads_over_images(stage: MeasuredStage, quantities: Sequence[str]) -> Iterator[tuple[str, float, Mean, float]]:
    """(quantity, at, mean over the images, largest); only a curvature may be negative."""
    for quantity in quantities:
        rows = stage.rows(quantity, columns=["at", "value"])
        for at in sorted(rows["at"].unique()):
            values = rows.loc[rows["at"] == at, "value"]
            middle = mean(values, least=-math.inf if quantity == CURVATURE else 0.0)
            yield quantity, at, middle, float(values.max())
