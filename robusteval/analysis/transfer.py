"""The matrix of transfer attacks: how accurate each target stays under what was made on each source (SGR, table 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from robusteval.analysis.curves import within
from robusteval.analysis.intervals import proportion
from robusteval.analysis.results import Results
from robusteval.analysis.standing import asked_radii


def transfer_matrix(runs: Sequence[Results]) -> pd.DataFrame:
    """One row for each attack, budget, source and target: the share of all images that the target still classifies
    correctly, with its 95 % interval. The budget is NaN where each image has its own. A target under its own attacks is
    not in it: that is the white-box table."""
    rows = []
    for results in runs:
        for entry in results.attacks_ran:
            if entry.source is None:
                continue
            distances = results.distances(entry.norm, entry.name)
            asked = results.manifest.protocol.own_budgets
            own = {entry.norm: asked[entry.norm]} if entry.own_budgets and entry.norm in asked else {}
            for _, budget, radii in asked_radii(results.images, {entry.norm: entry.budgets}, own):
                share = proportion(~within(distances, radii))
                rows.append(
                    {
                        "attack": entry.label,
                        "title": entry.attack,
                        "norm": entry.norm,
                        "budget": math.nan if budget is None else budget,
                        "source": entry.source,
                        "target": results.manifest.model.name,
                        "accuracy": share.value,
                        "low": share.low,
                        "high": share.high,
                        "images": share.n,
                    }
                )
    return pd.DataFrame(rows)
