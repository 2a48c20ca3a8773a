"""Confidence of the wrong predictions at witnesses."""

from __future__ import annotations

import pandas as pd

from robusteval.analysis.metrics.measured import MeasuredStage


def deceptive(stage: MeasuredStage) -> pd.DataFrame:
    """Columns image_id, label, wrong (numbers of classes), confidence: a row for each image with a witness."""
    quantities = ["deceptive_class", "deceptive_confidence"]
    table = stage.rows(*quantities).pivot_table(index="image_id", columns="quantity", values="value")
    table = table.reindex(columns=quantities).dropna()
    table = table.rename(columns={"deceptive_class": "wrong", "deceptive_confidence": "confidence"}).reset_index()
    labels = stage.results.images.set_index("image_id")["label"]
    table.insert(1, "label", table["image_id"].map(labels))
    return table.astype({"wrong": int}).rename_axis(columns=None)


def most_deceptive(stage: MeasuredStage) -> pd.DataFrame:
    """The row of `deceptive` with the highest confidence for each label, the first by id among equals; and the names
    of both classes."""
    table = deceptive(stage).sort_values(["label", "confidence"], ascending=[True, False], kind="stable")
    titles = stage.results.classes
    best = table.drop_duplicates("label").reset_index(drop=True)
    return best.assign(original=best["label"].map(titles.__getitem__), seen=best["wrong"].map(titles.__getitem__))
