"""The numbers of each convolution."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.metrics.measured import MeasuredStage

QUANTITIES = ("smoothness", "smoothness_normalised", "high_frequency_share")


def layers(stage: MeasuredStage) -> pd.DataFrame:
    """One row a layer, in their order: `layer` and QUANTITIES; NaN where a ratio does not exist."""
    rows = _by_layer(stage.set_rows(*(f"{quantity}:{{layer}}" for quantity in QUANTITIES)))
    table = rows.pivot(index=["at", "layer"], columns="kind", values="value")
    return table.reindex(columns=list(QUANTITIES)).reset_index("layer").sort_index().reset_index(drop=True)


def spectra(stage: MeasuredStage) -> pd.DataFrame:
    """Columns layer, frequency, energy."""
    rows = _by_layer(stage.set_rows("spectrum:{layer}")).rename(columns={"at": "frequency", "value": "energy"})
    return rows[["layer", "frequency", "energy"]].reset_index(drop=True)


def _by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """With the columns kind and layer, the two parts of a quantity."""
    names = [quantity.partition(":") for quantity in rows["quantity"]]
    return rows.assign(kind=[kind for kind, _, _ in names], layer=[layer for _, _, layer in names])
