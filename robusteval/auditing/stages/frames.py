"""Tensors as the rows of tables, and meters as costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from robusteval.core.images import Images
from robusteval.core.methods import Statistic
from robusteval.models.classifier import Classifier
from robusteval.results.records import Cost
from robusteval.results.tables import MEASUREMENTS_TABLE, STATISTICS_TABLE

Found = tuple[str, float, Tensor]
"""A quantity, where it was measured, and its values (N,)."""


def array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def measurement_rows(stage: str, images: Images, found: Sequence[Found], *, missing: bool = True) -> pd.DataFrame:
    """One row for each quantity and image, without those that are NaN unless `missing`."""
    values = np.stack([array(v.double()) for _, _, v in found]) if found else np.empty((0, len(images)))
    rows, columns = np.nonzero(missing | ~np.isnan(values))
    return MEASUREMENTS_TABLE.frame(
        {
            "image_id": np.array(images.ids, dtype=object)[columns],
            "method": stage,
            "quantity": np.array([quantity for quantity, _, _ in found], dtype=object)[rows],
            "at": np.array([at for _, at, _ in found], dtype=float)[rows],
            "value": values[rows, columns],
        }
    )


def statistic_rows(stage: str, found: Sequence[Statistic]) -> pd.DataFrame:
    columns = {name: [getattr(s, name) for s in found] for name in ("quantity", "at", "value")}
    return STATISTICS_TABLE.frame({"method": stage, **columns})


def read_statistics(rows: pd.DataFrame) -> tuple[Statistic, ...]:
    """The statistics behind such rows."""
    columns = (rows[c].tolist() for c in ("quantity", "at", "value"))
    return tuple(Statistic(*row) for row in zip(*columns, strict=True))


def cost_of(classifier: Classifier) -> Cost:
    """What the meter of a classifier has booked."""
    meter = classifier.meter
    return Cost(
        model_seconds=meter.stopwatch.seconds,
        forwards=float(meter.forwards.sum()),
        backwards=float(meter.backwards.sum()),
    )
