"""Attacks from each class towards each other class."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.metrics.measured import MeasuredStage

QUANTITIES = ("reached", "target_probability", "distance")


def pairs(stage: MeasuredStage) -> pd.DataFrame:
    """Columns source, target (numbers), original, aim (names) and the QUANTITIES, a row for each attack."""
    titles = stage.results.classes
    rows = stage.set_rows(*QUANTITIES)
    table = rows.pivot_table(index="at", columns="quantity", values="value").reindex(columns=list(QUANTITIES))
    table = table.reset_index().rename(columns={"at": "pair"})
    source, target = table["pair"].astype(int) // len(titles), table["pair"].astype(int) % len(titles)
    both = {"source": source, "target": target, "original": source.map(titles.__getitem__)}
    both |= {"aim": target.map(titles.__getitem__)}
    return pd.concat([pd.DataFrame(both), table.drop(columns="pair")], axis=1).rename_axis(columns=None)
