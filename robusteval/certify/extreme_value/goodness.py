"""How far a fit can be trusted: standard errors, and whether maxima look like draws from the fitted distribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import genextreme

from robusteval.certify.extreme_value.gev import SHAPES, Fit, Gev
from robusteval.certify.extreme_value.likelihood import Floats, loss, most_likely, quantile

_STEP = 1e-5
"""Of central differences, where the scale is 1."""


def standard_errors(maxima: Floats, gev: Gev, p: float) -> tuple[float, float, float, float]:
    """Asymptotic standard errors of shape, loc, scale, and of the 1 - p quantile by the delta method.

    From the observed information, the curvature of the log-likelihood at its maximum. NaN where there are none: nothing
    fitted, a shape at the limit of the search, c >= 1/2, for which maximum likelihood is not asymptotically normal
    (Smith 1985), or a curvature that is not that of a maximum. That of the quantile is the error before it is raised.
    """
    none = (np.nan,) * 4
    if not gev.shape < 0.5 or gev.code is Fit.AT_LIMIT:
        return none
    z, theta = _standardised(maxima, gev)
    information = len(z) * _differences(lambda at: loss(at, z)[1], theta)
    information = (information + information.T) / 2
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information).min() <= 0:
        return none
    covariance = np.linalg.inv(information)
    (direction,) = _differences(lambda at: np.array([quantile(at, p)]), theta)
    of_shape, of_loc, of_scale = np.sqrt(np.diag(covariance)).tolist()
    of_quantile = float(np.sqrt(direction @ covariance @ direction))
    return of_shape, gev.scale * of_loc, gev.scale * of_scale, gev.scale * of_quantile


def p_value(maxima: Floats, gev: Gev, rng: np.random.Generator, refits: int) -> float:
    """Probability of an Anderson-Darling statistic at least as large as that of maxima (n,), if they follow a GEV.

    By parametric bootstrap: `refits` samples of size n from the fitted distribution, each fitted anew, so that the
    estimation of the parameters is allowed for (Stute, Manteiga and Quindimil 1993); the p-value is
    (1 + exceedances) / (1 + refits). NaN where nothing was fitted. One fit a sample.
    """
    if not np.isfinite(gev.shape):
        return float("nan")
    z, theta = _standardised(maxima, gev)
    samples = genextreme.rvs(gev.shape, size=(refits, len(z)), random_state=rng)
    found = anderson_darling(samples, np.array([most_likely(x, SHAPES) for x in samples]))
    return float(1 + (found >= anderson_darling(z[None], theta[None])).sum()) / (1 + refits)


def anderson_darling(x: Floats, theta: Floats) -> Floats:
    """A^2 of B samples (B, n) against GEV distributions theta (B, 3) = (c, loc, log scale) (Anderson and Darling 1954),
    (B,)."""
    n, ordered = x.shape[1], np.sort(x, axis=1)
    shape, loc, log_scale = theta.T[:, :, None]
    below = genextreme.logcdf(ordered, shape, loc, np.exp(log_scale))
    above = genextreme.logsf(ordered, shape, loc, np.exp(log_scale))
    statistic: Floats = -n - ((2 * np.arange(1, n + 1) - 1) * (below + above[:, ::-1])).mean(1)
    return statistic


def _standardised(maxima: Floats, gev: Gev) -> tuple[Floats, Floats]:
    """Maxima (n,) with loc 0 and scale 1, and their theta."""
    return (np.asarray(maxima, dtype=np.float64) - gev.loc) / gev.scale, np.array([gev.shape, 0.0, 0.0])


def _differences(function: Callable[[Floats], Floats], theta: Floats) -> Floats:
    """The Jacobian (m, 3) of a function of theta, by central differences."""
    steps = _STEP * np.eye(3)
    return np.stack([(function(theta + h) - function(theta - h)) / (2 * _STEP) for h in steps], axis=1)
