"""Where rounding may not go: a number may differ a little on another machine, what a report says of it may not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.metrics.gradient_size import SIZES


def raised_radii(
    where: str,
    stored: pd.DataFrame,
    again: pd.DataFrame,
    budgets: Collection[float],
    own: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[str]:
    """One line for each row of certificates whose stored radius certifies more than the one computed again: anything
    where that is 0, or a budget of the protocol, or the image's own, that it does not reach. Smaller radii claim
    less."""
    if "radius" not in again or len(stored) != len(again):
        return
    old, new = _numbers(stored["radius"]), _numbers(again["radius"])
    for i, image_id in enumerate(again["image_id"]):
        if old[i] > 0 >= new[i]:
            yield f"{where}, image {image_id}: radius is {old[i]}, expected 0, nothing certified"
        for budget in (*budgets, *([own[image_id]] if image_id in own else [])):
            if old[i] >= budget > new[i]:
                yield f"{where}, image {image_id}: radius is {old[i]}, expected {new[i]}, below the budget {budget}"


def vanished(where: str, stored: pd.DataFrame, again: pd.DataFrame) -> Iterator[str]:
    """One line for each size of a gradient that is stored as something and is 0 when it is computed again: that it
    vanishes is a sign of gradient masking, however near to 0 another number is."""
    if "quantity" not in again or len(stored) != len(again):
        return
    old, new = _numbers(stored["value"]), _numbers(again["value"])
    for i in np.flatnonzero(again["quantity"].isin(SIZES).to_numpy() & (new == 0) & (old != 0)):
        at = f", image {again['image_id'].iloc[i]}" if "image_id" in again else ""
        yield f"{where}{at}: {again['quantity'].iloc[i]} is {old[i]}, expected 0: the gradient vanishes"


def _numbers(column: pd.Series[float]) -> NDArray[np.float64]:
    """NaN where there is no number."""
    return pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
