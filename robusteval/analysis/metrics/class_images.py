"""The numbers of the images that excite each class most."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.metrics.measured import MeasuredStage

QUANTITIES = ("logit_start", "logit", "probability")


def seen(stage: MeasuredStage) -> pd.DataFrame:
    """Columns class, name and the QUANTITIES, a row for each class that was seen."""
    rows = stage.set_rows(*QUANTITIES)
    table = rows.pivot_table(index="at", columns="quantity", values="value").reindex(columns=list(QUANTITIES))
    titles = stage.results.classes
    classes = range(min(len(titles), stage.settings.get("classes", len(titles))))
    table = table.reindex([float(k) for k in classes])
    table.insert(0, "class", classes)
    table.insert(1, "name", [titles[k] for k in classes])
    return table.reset_index(drop=True)


def ascent(stage: MeasuredStage) -> pd.DataFrame:
    """Columns steps, mean_logit: the logit on the way, the mean over the classes."""
    return stage.set_rows("mean_logit")[["at", "value"]].rename(columns={"at": "steps", "value": "mean_logit"})
