"""The extreme value fits behind an estimate, out of the statistics of its stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis.results import Results
from robusteval.results.records import CertificateRecord

P = 0.001
"""What an estimate is exceeded with where the run does not say it."""


@dataclass(frozen=True)
class Family:
    """The quantities of a kind of fit: what is fitted, the prefix of its parameters, and what is estimated with it."""

    maxima: str
    prefix: str
    estimate: str

    @property
    def quantities(self) -> tuple[str, ...]:
        """All that a certificate with such fits declares."""
        fitted = ("gev_shape", "gev_loc", "gev_scale", "quantile_error", "fit_p_value")
        return self.maxima, self.estimate, *(self.prefix + name for name in fitted)


SLOPE = Family("maximum", "", "L")
"""One fit; its maxima are numbered."""
MODULUS = Family("omega_maximum", "omega_", "omega")
"""One at each radius."""


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


def fitted_by(results: Results, family: Family) -> list[CertificateRecord]:
    """The certificates of a run that rest on such fits."""
    ran = [record for record in results.certificates_ran if all(map(record.declares, family.quantities))]
    return [record for record in ran if len(results.rows("statistics", record.name))]


def statistic(results: Results, record: CertificateRecord, quantity: str) -> pd.DataFrame:
    """The rows of a quantity by their `at`. Raises KeyError for one that the certificate does not declare."""
    record.quantity(quantity)
    rows = results.rows("statistics", record.name)
    return rows[rows["quantity"] == quantity].sort_values("at")


def fitted(results: Results, record: CertificateRecord, family: Family, at: float = 0.0) -> Fitted:
    """A certificate's fit, or that of one radius."""
    rows = statistic(results, record, family.maxima)
    maxima = np.sort((rows[rows["at"] == at] if family.prefix else rows)["value"].to_numpy(float))

    def value(quantity: str) -> float:
        found = statistic(results, record, quantity)
        values = found.loc[found["at"] == at, "value"].tolist()
        return float(values[0]) if values else float("nan")

    shape, loc, scale = (value(f"{family.prefix}gev_{name}") for name in ("shape", "loc", "scale"))
    error, p_value = value(f"{family.prefix}quantile_error"), value(f"{family.prefix}fit_p_value")
    p = float(record.settings.get("p", P))
    return Fitted(maxima[np.isfinite(maxima)], (shape, loc, scale), value(family.estimate), error, p_value, p)
