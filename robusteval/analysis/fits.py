"""The extreme value fits behind an estimate, out of the statistics of its stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.results import Results
from robusteval.results.manifest import CertificateRecord


@dataclass(frozen=True)
class Fitted:
    """One fit: finite maxima in ascending order, scipy's parameters (NaN if there is no fit), the estimate, the error
    of its quantile, the p-value, and the probability that the quantile is exceeded with."""

    maxima: NDArray[np.float64]
    gev: tuple[float, float, float]
    estimate: float
    error: float
    p_value: float
    p: float

    @property
    def exists(self) -> bool:
        return bool(np.isfinite(self.gev).all())

    @property
    def title(self) -> str:
        error = f" ± {self.error:.2g}" if np.isfinite(self.error) else ""
        return f"{self.estimate:.3g}{error}" + (f", p {self.p_value:.2g}" if np.isfinite(self.p_value) else "")


def states_of_fits(results: Results, record: CertificateRecord) -> list[str]:
    """What became of the fits of a certificate, in words, each once."""
    rows, said = results.rows("statistics", record.name), dict[int, str]()
    for quantity in (q for q in record.quantities if q.words):
        codes = rows.loc[rows["quantity"] == quantity.name, "value"]
        said |= {int(code): quantity.words[int(code)] for code in np.unique(codes)}
    return [said[code] for code in sorted(said)]


def fitted_at(rows: pd.DataFrame, maxima: str, prefix: str, estimate: str, at: float, p: float) -> Fitted:
    """The fit at one radius, out of the statistics; `maxima` of an L-bound are numbered instead."""
    of = rows[rows["quantity"] == maxima]
    values = np.sort((of if not prefix else of[of["at"] == at])["value"].to_numpy(float))

    def value(quantity: str) -> float:
        found: Any = rows[(rows["quantity"] == quantity) & (rows["at"] == at)]["value"]
        return float(found.iloc[0]) if len(found) else float("nan")

    shape, loc, scale = (value(f"{prefix}gev_{name}") for name in ("shape", "loc", "scale"))
    error, p_value = value(f"{prefix}quantile_error"), value(f"{prefix}fit_p_value")
    return Fitted(values[np.isfinite(values)], (shape, loc, scale), value(estimate), error, p_value, p)
