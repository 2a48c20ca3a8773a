"""The generalized extreme value (GEV) distribution, fitted to maxima by maximum likelihood, and how a fit went.

scipy's sign convention holds throughout: the shape is c = -xi, so a heavy tail has c < 0 and a distribution
with an upper end has c > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from robusteval.certify.extreme_value.likelihood import Floats, most_likely, quantile

FEWEST = 10
"""Three parameters need at least so many maxima."""
SHAPES = (-1.0, 1.0)
"""The shapes searched: for c > 1 the likelihood is unbounded, for c < -1 the distribution has no mean."""


class Fit(IntEnum):
    """How a fit went. TOO_FEW, TIED, FAILED and NOT_FINITE have no fitted distribution."""

    FITTED = 0
    """The fitted tail has an upper end, c > 0."""
    RAISED = 1
    """The quantile lay below an observed value; the estimate is that value."""
    AT_LIMIT = 2
    """The shape stopped at a limit of the search: the tail is not to be trusted. Raised as above."""
    TOO_FEW = 3
    """Fewer than 10 maxima: the estimate is the observed maximum."""
    TIED = 4
    """Half of the maxima or more are one value: the estimate is the observed maximum."""
    FAILED = 5
    """The optimiser found no finite likelihood: the estimate is the observed maximum."""
    NOT_FINITE = 6
    """A maximum is infinite or NaN: the estimate is infinite."""
    UNBOUNDED = 7
    """Fitted, but the tail has no upper end, c <= 0: the quantile is no largest value."""


WORDS: dict[int, str] = {
    Fit.FITTED: "fitted",
    Fit.RAISED: "fitted, raised to the largest value seen",
    Fit.AT_LIMIT: "shape at the limit of the search, tail not to be trusted",
    Fit.TOO_FEW: "too few maxima, the largest value seen",
    Fit.TIED: "maxima tied, the largest value seen",
    Fit.FAILED: "fit failed, the largest value seen",
    Fit.NOT_FINITE: "a maximum is not finite",
    Fit.UNBOUNDED: "fitted, a tail without an end",
}
"""What a report says of a fit."""


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


def fit(maxima: Floats, p: float, observed: float | None = None, shapes: tuple[float, float] = SHAPES) -> Gev:
    """The value that a further maximum exceeds with probability p, estimated from maxima (n,).

    The fit is by maximum likelihood with c within `shapes` (GradReg section 2.2). With p = 0 and 0 < c it is the upper
    end of the distribution, which is the estimate of Weng et al. (2018). `observed` is a value known to occur, by
    default the largest maximum: an estimate below it would contradict the data, so it is raised to it. Nothing raises
    here: what cannot be fitted is said in `code`.
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
    theta = most_likely(z, shapes)
    reached = centre + unit * quantile(theta, p)
    if not np.isfinite(reached):
        return unfitted(Fit.FAILED, observed)
    shape, loc, scale = float(theta[0]), centre + unit * float(theta[1]), unit * float(np.exp(theta[2]))
    return Gev(shape, loc, scale, max(reached, observed), observed, n, _code(shape, shapes, reached < observed))


def _code(shape: float, shapes: tuple[float, float], raised: bool) -> Fit:
    if min(shape - shapes[0], shapes[1] - shape) < 1e-6:
        return Fit.AT_LIMIT
    if raised:
        return Fit.RAISED
    return Fit.FITTED if shape > 0 else Fit.UNBOUNDED
