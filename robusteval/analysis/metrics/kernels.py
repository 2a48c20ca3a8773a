"""The numbers of each convolution."""

from __future__ import annotations

import pandas as pd

QUANTITIES = ("smoothness", "smoothness_normalised", "high_frequency_share")


def layers(statistics: pd.DataFrame) -> pd.DataFrame:
    """One row a layer, in their order: `layer` and QUANTITIES; NaN where a ratio does not exist."""
    names = [quantity.partition(":") for quantity in statistics["quantity"]]
    own = statistics.assign(kind=[kind for kind, _, _ in names], layer=[layer for _, _, layer in names])
    table = own[own["kind"].isin(QUANTITIES)].pivot(index=["at", "layer"], columns="kind", values="value")
    return table.reindex(columns=list(QUANTITIES)).reset_index("layer").sort_index().reset_index(drop=True)
