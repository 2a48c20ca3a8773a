"""Certified accuracy against radius: the share of images that one certificate holds for, with 95 % bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robusteval.analysis.intervals import clopper_pearson
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.results.bracket import usable_rows
from robusteval.results.run import Run


def certified_curve(run: Run | Results, stage: str, radii: Sequence[float] | None = None) -> pd.DataFrame:
    """`certified_accuracy` of one certificate of a run, named by its stage."""
    results = Results.of(run)
    rows = results.rows("certificates", stage)
    if rows.empty:
        known = ", ".join(results.certificates["method"].unique()) or "none"
        raise UserError(f"expected a certificate of this run ({known}), got {stage}")
    return certified_accuracy(rows, results.images, radii)


def certified_accuracy(
    certificates: pd.DataFrame, images: pd.DataFrame, radii: Sequence[float] | None = None
) -> pd.DataFrame:
    """Columns radius, share, low, high: at each radius r the share of `images` for which the rows of one certificate
    name the label with a radius of at least r. Abstentions, other classes and images without a row count as wrong.

    Without `radii`, 0 and every radius at which the share changes; between two of them it is that of the larger.
    The 95 % interval (Clopper-Pearson) is of the share in the population that the images were drawn from. It takes
    each radius for right: that one may be wrong with probability alpha, per image, comes on top.
    """
    holding = certificates[usable_rows(certificates, images)]
    ordered = np.sort(holding["radius"].to_numpy(dtype=np.float64))
    at = np.unique(np.append(ordered, 0.0)) if radii is None else np.asarray(radii, dtype=np.float64)
    count, n = len(ordered) - np.searchsorted(ordered, at, side="left"), len(images)
    low, high = clopper_pearson(count, n)
    return pd.DataFrame({"radius": at, "share": count / n, "low": low, "high": high})
