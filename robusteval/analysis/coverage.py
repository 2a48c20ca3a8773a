"""Certified accuracy against radius: the share of images that one certificate holds for, with 95 % bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.curves import evenly
from robusteval.analysis.intervals import clopper_pearson
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.results.bracket import usable_rows
from robusteval.results.run import Run


def certified_curve(run: Run | Results, stage: str, radii: Sequence[float] | None = None) -> pd.DataFrame:
    """`certified_accuracy` of one certificate of a run, named by its stage."""
    results = Results.of(run)
    if next(filter(len, results.pieces("certificates", ["radius"], stage)), None) is None:
        known = ", ".join(results.columns("certificates", ["method"])["method"].unique()) or "none"
        raise UserError(f"expected a certificate of this run ({known}), got {stage}")
    return certified_share(results.usable_radii(stage), len(results.images), radii)


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
    return certified_share(holding["radius"].to_numpy(dtype=np.float64), len(images), radii)


def certified_share(
    usable: NDArray[np.float64], n: int, radii: Sequence[float] | None = None, limit: int | None = None
) -> pd.DataFrame:
    """The same of the radii that count, of `n` images; `limit` as for `curve`."""
    ordered = np.sort(usable)
    at = evenly(np.unique(np.append(ordered, 0.0)), limit) if radii is None else np.asarray(radii, dtype=np.float64)
    count = len(ordered) - np.searchsorted(ordered, at, side="left")
    low, high = clopper_pearson(count, n)
    return pd.DataFrame({"radius": at, "share": count / n, "low": low, "high": high})
