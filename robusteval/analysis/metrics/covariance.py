"""Second moments of perturbations: the part of a matrix that is shown, and functions of the displacement."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.metrics.measured import MeasuredStage

Shape = tuple[int, int, int]
ENTRIES = 288
"""Of the middle half of a matrix so many rows are shown at most, so that each is a dot: three rows of a CIFAR image."""


def channel_pairs(channels: int) -> list[tuple[int, int]]:
    """Of channels, each with itself and with those after it."""
    return list(combinations_with_replacement(range(channels), 2))


def shown_entries(shape: Shape) -> NDArray[np.int64]:
    """The entries of a matrix over (C, H, W) that are shown: the pixel values row by row, a pixel's channels side by
    side, of these the middle half (as the paper's) and at most ENTRIES."""
    order = np.arange(np.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()
    side = min(max(1, len(order) // 2), ENTRIES)
    start = (len(order) - side) // 2
    return order[start : start + side]


def shown_part(matrix: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """These entries of a matrix over (C, H, W), over the largest absolute value of the whole."""
    order = shown_entries(shape)
    part: NDArray[Any] = matrix[np.ix_(order, order)] / (np.abs(matrix).max() or 1.0)
    return part


def long_range_part(zeta: float, shape: Shape) -> NDArray[np.float64]:
    """These entries of the covariance of SGR's long-range correlated noise: exp(-r / zeta) within a channel, half of
    that across."""
    channel, row, column = np.unravel_index(shown_entries(shape), shape)
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    factor = np.where(channel[:, None] == channel, 1.0, 0.5)
    part: NDArray[np.float64] = factor * long_range(distance, zeta)
    return part


def long_range(distance: NDArray[np.float64], zeta: float) -> NDArray[np.float64]:
    """The covariance of that noise within a channel."""
    covariance: NDArray[np.float64] = np.exp(-distance / zeta)
    return covariance


def within_channels(stage: MeasuredStage, channels: int, prefix: str = "") -> pd.DataFrame:
    """Columns displacement, covariance: the mean over the channels of the function within each, over its value at 0.
    With the prefix "data_" that of the images."""
    found = [_function(stage, f"{prefix}covariance_{c}_{c}") for c in range(channels)]
    covariance = np.mean([values for _, values in found], 0) / _scale(stage, channels, prefix)
    return pd.DataFrame({"displacement": found[0][0], "covariance": covariance})


def functions(stage: MeasuredStage, channels: int) -> pd.DataFrame:
    """Columns first, second (channels), displacement, covariance, standard_error: of each pair of channels, over the
    mean variance of a channel; an error of NaN where there is none."""
    scale, frames = _scale(stage, channels), []
    for c, d in channel_pairs(channels):
        at, values = _function(stage, f"covariance_{c}_{d}")
        errors = _function(stage, f"covariance_error_{c}_{d}")[1]
        frame = pd.DataFrame({"first": c, "second": d, "displacement": at, "covariance": values / scale})
        frames.append(frame.assign(standard_error=errors / scale if len(errors) else np.nan))
    return pd.concat(frames, ignore_index=True)


def measured_decay_length(stage: MeasuredStage, c: int, d: int, prefix: str = "") -> float | None:
    """Where the function of two channels has fallen to 1/e of its value at 0; None where it does not."""
    values = _function(stage, f"{prefix}decay_length_{c}_{d}")[1]
    return float(values[0]) if len(values) else None


def perturbation_count(stage: MeasuredStage) -> int:
    """How many witnesses were measured."""
    return int(_function(stage, "perturbations")[1][0])


def _function(stage: MeasuredStage, quantity: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacements and values of a quantity."""
    rows = stage.set_rows(quantity).sort_values("at")
    return rows["at"].to_numpy(float), rows["value"].to_numpy(float)


def _scale(stage: MeasuredStage, channels: int, prefix: str = "") -> float:
    """The mean variance over the channels."""
    scale = float(np.mean([_function(stage, f"{prefix}covariance_{c}_{c}")[1][0] for c in range(channels)]))
    return scale if scale > 0 else 1.0
