"""How well the analytic expected output agrees with Monte Carlo."""

from __future__ import annotations

import math

import pandas as pd

from robusteval.analysis.intervals import proportion
from robusteval.analysis.metrics.measured import MeasuredStage

AGREES = ("agreement", "clean_agreement")
"""Of the analytic expected output, and of the output of the image itself."""


def agreements(stage: MeasuredStage) -> pd.DataFrame:
    """Columns quantity, sigma, share, low, high, images, open: of the images of which Monte Carlo tells whether the
    class of its mean is that of the expected output, the share where it is, and where it is the clean prediction."""
    rows = stage.rows("monte_carlo_class", "agreement")
    wide = rows.pivot(index=["at", "image_id"], columns="quantity", values="value").reset_index()
    wide = wide.reindex(columns=["at", "image_id", "monte_carlo_class", "agreement"])
    predicted = stage.results.images.set_index("image_id")["predicted"]
    wide["clean_agreement"] = wide["image_id"].map(predicted) == wide["monte_carlo_class"]
    found = []
    for sigma, group in wide.groupby("at"):
        told = group[group["agreement"].notna()]
        for quantity in AGREES:
            # Of no images nothing is known.
            share = proportion(told[quantity]) if len(told) else None
            numbers = (share.value, share.low, share.high) if share else (math.nan, 0.0, 1.0)
            found.append((quantity, sigma, *numbers, len(told), len(group) - len(told)))
    return pd.DataFrame(found, columns=["quantity", "sigma", "share", "low", "high", "images", "open"])
