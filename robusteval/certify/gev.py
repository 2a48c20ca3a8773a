"""The generalized extreme value (GEV) distribution, fitted to maxima by maximum likelihood.

scipy's sign convention holds throughout: the shape is c = -xi, so a heavy tail has c < 0 and a distribution
with an upper end has c > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gamma
from scipy.stats import fit as fit_distribution
from scipy.stats import genextreme

Floats = NDArray[np.float64]

FEWEST = 10
"""Three parameters need at least so many maxima."""
STEEPEST = 1.0
"""|c| stays below it: for c > 1 the likelihood is unbounded, for c < -1 the distribution has no mean."""


class Fit(IntEnum):
    """How a fit went. Only the first three come from a fitted distribution."""

    FITTED = 0
    RAISED = 1
    """The quantile lay below an observed value; the estimate is that value."""
    AT_LIMIT = 2
    """The shape stopped at the limit of the search, |c| = 1: the tail is not to be trusted. Raised as above."""
    TOO_FEW = 3
    """Fewer than 10 maxima: the estimate is the observed maximum."""
    TIED = 4
    """Half of the maxima or more are one value: the estimate is the observed maximum."""
    FAILED = 5
    """The optimiser found no finite likelihood: the estimate is the observed maximum."""
    NOT_FINITE = 6
    """A maximum is infinite or NaN: the estimate is infinite."""


@dataclass(frozen=True)
class Gev:
    """scipy.stats.genextreme(shape, loc, scale) fitted to n maxima; NaN parameters where nothing was fitted.

    estimate: the 1 - p quantile, but never below the observed maximum.
    """

    shape: float
    loc: float
    scale: float
    estimate: float
    observed: float
    n: int
    code: Fit


def fit(maxima: Floats, p: float, observed: float | None = None) -> Gev:
    """The value that a further maximum exceeds with probability p, estimated from maxima (n,).

    The fit is by maximum likelihood with |c| <= 1, started from L-moments and from c = 0 (GradReg section 2.2,
    after Weng et al. 2018, whose estimate is the upper end of a fit with c > 0). `observed` is a value known to
    occur, by default the largest maximum: an estimate below it would contradict the data, so it is raised to
    it. Nothing raises here: what cannot be fitted is said in `code`.
    """
    x = np.asarray(maxima, dtype=np.float64).ravel()
    n = len(x)
    observed = float(np.max(x, initial=-np.inf)) if observed is None else observed

    def unfitted(code: Fit, estimate: float) -> Gev:
        return Gev(np.nan, np.nan, np.nan, estimate, observed, n, code)

    if not np.isfinite(x).all() or (n > 0 and not np.isfinite(observed)):
        return unfitted(Fit.NOT_FINITE, np.inf)
    if n < FEWEST:
        return unfitted(Fit.TOO_FEW, observed)
    peak = float(np.abs(x).max())
    centre, unit = float(np.median(x)), peak * float(np.std(x / peak)) if peak else 0.0
    if unit <= 1e-9 * peak:
        return unfitted(Fit.TIED, observed)
    # Rounded, so that the last bits of the maxima cannot steer the optimiser along another path.
    z = np.round(x / unit - centre / unit, 8)
    if 2 * np.unique(z, return_counts=True)[1].max() >= n:
        return unfitted(Fit.TIED, observed)
    shape, loc, scale = _most_likely(z)
    quantile = centre + unit * float(genextreme.isf(p, shape, loc, scale))
    if not np.isfinite(quantile):
        return unfitted(Fit.FAILED, observed)
    code = Fit.AT_LIMIT if abs(shape) > STEEPEST - 1e-6 else Fit.RAISED if quantile < observed else Fit.FITTED
    return Gev(shape, centre + unit * loc, unit * scale, max(quantile, observed), observed, n, code)


def _most_likely(z: Floats) -> tuple[float, float, float]:
    """Shape, loc and scale of the likelier of two local searches; NaN if both fail."""
    spread = float(np.ptp(z))
    bounds = {
        "c": (-STEEPEST, STEEPEST),
        "loc": (float(z.min()) - spread, float(z.max()) + spread),
        "scale": (1e-3 * spread, 10 * spread),
    }
    search = partial(minimize, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9, "maxfev": 2000})
    best, lowest = (np.nan, np.nan, np.nan), np.inf
    for start in (_l_moments(z), (0.0, float(z.mean()) - 0.45, 0.78)):
        guess = {name: float(np.clip(v, *bound)) for v, (name, bound) in zip(start, bounds.items(), strict=True)}
        found = fit_distribution(genextreme, z, bounds, guess=guess, optimizer=search)
        value = float(found.nllf())
        if value < lowest:
            shape, loc, scale = map(float, found.params)
            best, lowest = (shape, loc, scale), value
    return best


def _l_moments(z: Floats) -> tuple[float, float, float]:
    """Hosking, Wallis and Wood (1985), eq. 14: shape from the L-skewness, then scale and loc."""
    n = len(z)
    ranks, ordered = np.arange(n), np.sort(z)
    b0 = float(ordered.mean())
    b1 = float((ordered * ranks).mean()) / (n - 1)
    b2 = float((ordered * ranks * (ranks - 1)).mean()) / ((n - 1) * (n - 2))
    second, third = 2 * b1 - b0, 6 * b2 - 6 * b1 + b0
    c = 2 / (3 + third / second) - np.log(2) / np.log(3)
    shape = float(np.clip(7.8590 * c + 2.9554 * c**2, -0.9, 0.9))
    if abs(shape) < 1e-6:
        shape = 1e-6
    scale = second * shape / ((1 - 2.0**-shape) * float(gamma(1 + shape)))
    return shape, b0 - scale * (1 - float(gamma(1 + shape))) / shape, scale
