"""Split-conformal calibration of estimated lower bounds against the witnesses of the same run. Imports no torch.

An estimate can exceed the truth, and a run sees it where a witness lies below. On a random part of the images each
estimate is scaled by the largest factor that would have kept it from exceeding the closest witness on more than the
allowed share of them; on the others the scaled bound then exceeds the witness with a probability of at most `delta`.

With n calibrating images and r_i = distance of the closest witness / estimate, the factor is the k-th smallest r_i,
k = floor(delta (n + 1)) (Vovk, Gammerman & Shafer 2005, prop. 4.1; Papadopoulos et al. 2002). If one more image is
exchangeable with them, its r is below the k-th smallest of the n with probability at most k / (n + 1) <= delta. The
guarantee is marginal, over images and the split, and speaks of the attacks of this run, not of the true distance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from robusteval.core.methods import Settings
from robusteval.results.tables import CALIBRATION_TABLE

Floats = NDArray[np.float64]


class Calibration(Settings):
    """How estimated lower bounds are calibrated."""

    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of further images on which a calibrated bound may exceed the closest witness."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the images, how many calibrate; the others are what the bounds are counted on."""


def calibrate(
    bounds: pd.DataFrame, certificates: pd.DataFrame, calibration: Calibration, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The bounds with a column `calibrated_<method>` for each estimate of f (NaN for the images that calibrate), and
    the table of factors and violations. Of `certificates` what each method is: method, norm, kind and subject.

    Only images count that are classified correctly and whose estimate is above zero: the others violate nothing. A
    factor above 1 is taken as 1, for calibration raises no bound; it is 0 where too few images calibrate for `delta`.
    """
    calibrating = split(bounds["image_id"].tolist(), calibration.share, seed)
    columns, rows = {}, []
    for method, norm in _estimates(certificates):
        estimate = bounds[f"lower_{method}"].to_numpy(np.float64)
        distance = bounds[f"upper_{norm}"].to_numpy(np.float64)
        counts = bounds["correct"].to_numpy(bool) & (estimate > 0)
        used, others = counts & calibrating, counts & ~calibrating
        with np.errstate(invalid="ignore", divide="ignore"):
            # Infinity over infinity and infinity times 0: an unbounded estimate without a witness, or without a factor.
            ratios = np.nan_to_num(distance / estimate, nan=np.inf, posinf=np.inf)
            factor = conformal_factor(ratios[used], calibration.delta)
            scaled = np.nextafter(np.nan_to_num(estimate * factor, nan=0.0, posinf=np.inf), 0)
        columns[f"calibrated_{method}"] = np.where(calibrating, np.nan, scaled)
        rows.append(
            {
                "method": method,
                "norm": norm,
                "delta": calibration.delta,
                "calibrating": int(used.sum()),
                "factor": factor,
                "tested": int(others.sum()),
                "violated_before": int((estimate > distance)[others].sum()),
                "violated_after": int((scaled > distance)[others].sum()),
            }
        )
    table = CALIBRATION_TABLE.frame({name: [row[name] for row in rows] for name in CALIBRATION_TABLE.names})
    return bounds.assign(**columns), table


def conformal_factor(ratios: Floats, delta: float) -> float:
    """The k-th smallest of ratios (n,), k = floor(delta (n + 1)); at most 1, and 0 where k is 0."""
    k = int(np.floor(delta * (len(ratios) + 1) + 1e-9))
    return 0.0 if k == 0 else float(min(np.sort(ratios)[k - 1], 1.0))


def split(ids: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which images calibrate: those that come first when the ids are ordered by a hash of seed and id."""
    keys = [hashlib.sha256(f"{seed}\x1fcalibration\x1f{i}".encode()).digest() for i in ids]
    order = sorted(range(len(ids)), key=keys.__getitem__)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[order[: round(share * len(ids))]] = True
    return chosen


def _estimates(certificates: pd.DataFrame) -> list[tuple[str, str]]:
    """The method and norm of those that a witness against f can contradict."""
    own = certificates[(certificates["kind"] == "estimate") & (certificates["subject"] == "f")]
    return list(own[["method", "norm"]].drop_duplicates().itertuples(index=False, name=None))
