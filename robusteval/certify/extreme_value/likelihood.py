"""The likelihood of the generalized extreme value (GEV) distribution: its gradient, its maximum, its curvature there.

scipy's sign convention holds throughout: the shape is c = -xi, so a heavy tail has c < 0 and a distribution with an
upper end has c > 0. With z = (x - loc) / scale and t = -log(1 - c z) / c, which is z at c = 0, the density is
exp(-(1 - c) t - exp(-t)) / scale. Parameters are theta = (c, loc, log scale).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gamma

Floats = NDArray[np.float64]

_NEAR_ZERO = 1e-5
"""Below this |c| the derivative of t by c comes from its series: direct, it would lose digits."""


def loss(theta: Floats, x: Floats) -> tuple[float, Floats]:
    """Mean negative log density of x (n,) at theta, and its gradient (3,); infinite outside of the support."""
    c, loc, log_scale = theta.tolist()
    scale, n = math.exp(log_scale), len(x)
    z = (x - loc) / scale
    room = 1 - c * z
    if not room.min() > 0:
        return math.inf, np.zeros(3)
    t = -np.log1p(-c * z) / c if c else z
    by_c = (z / room - t) / c if abs(c) > _NEAR_ZERO else z**2 * (1 / 2 + c * z * (2 / 3 + c * z * 3 / 4))
    with np.errstate(over="ignore", invalid="ignore"):
        tail = np.exp(-t)
        pull = (1 - c) - tail
        by_z = pull / room
        value = log_scale + float((1 - c) * t.sum() + tail.sum()) / n
        gradient = np.array([(pull @ by_c - t.sum()) / n, -by_z.sum() / (n * scale), 1 - (by_z @ z) / n])
    return (value, gradient) if np.isfinite(gradient).all() else (math.inf, np.zeros(3))


def quantile(theta: Floats, p: float) -> float:
    """What is exceeded with probability p; for p = 0 the upper end, infinite unless c > 0."""
    c, loc, log_scale = theta
    s = -np.log(-np.log1p(-p)) if p > 0 else np.inf
    reduced = -np.expm1(-c * s) / c if c else s
    return float(loc + np.exp(log_scale) * reduced)


def most_likely(x: Floats, shapes: tuple[float, float]) -> Floats:
    """theta (3,) with the largest likelihood among shapes within [low, high], -1 <= low and high <= 1; NaN if no
    finite likelihood was met. x has a standard deviation of about 1.

    At c = 1 the likelihood is largest where the upper end meets the largest value, a corner without a zero gradient
    that no search finds, but a formula does.
    """
    corner, at_corner = np.full(3, np.nan), math.inf
    if shapes[1] == 1.0:
        scale = float(np.mean(x.max() - x))
        corner, at_corner = np.array([1.0, x.max() - scale, math.log(scale)]), math.log(scale) + 1
    best, lowest = corner, at_corner
    spread = float(np.ptp(x))
    bounds = [shapes, (x.min() - spread, x.max() + spread), (math.log(1e-3 * spread), math.log(10 * spread))]
    for start in _starts(x, shapes):
        found = minimize(loss, start, (x,), "SLSQP", jac=True, bounds=bounds, options={"ftol": 1e-12, "maxiter": 40})
        value, gradient = loss(found.x, x)
        if value < lowest:
            best, lowest = found.x, value
        c = found.x[0]
        at_limit = min(c - shapes[0], shapes[1] - c) < 1e-6
        converged = value < math.inf and np.abs(gradient[1:] if at_limit else gradient).max() < 1e-5
        if converged or (c > 0.9 and lowest == at_corner):
            break
    return best


def _starts(x: Floats, shapes: tuple[float, float]) -> Iterator[Floats]:
    """L-moments; where they do not lead to a maximum, some shapes with the loc and scale of a Gumbel distribution."""
    yield _inside(_l_moments(x), x, shapes)
    for c in (0.0, 0.4, -0.3):
        yield _inside(np.array([c, x.mean() - 0.45 * x.std(), np.log(0.78 * x.std())]), x, shapes)


def _inside(theta: Floats, x: Floats, shapes: tuple[float, float]) -> Floats:
    """theta with its shape within the limits, and its scale widened until x lies well within the support."""
    c, loc, log_scale = np.clip(theta[0], *shapes), theta[1], theta[2]
    needed = float((c * (x - loc)).max())
    return np.array([c, loc, max(log_scale, np.log(1.1 * needed)) if needed > 0 else log_scale])


def _l_moments(x: Floats) -> Floats:
    """Hosking, Wallis and Wood (1985), eq. 14: shape from the L-skewness, then scale and loc."""
    n = len(x)
    ranks, ordered = np.arange(n), np.sort(x)
    b0 = float(ordered.mean())
    b1 = float((ordered * ranks).mean()) / (n - 1)
    b2 = float((ordered * ranks * (ranks - 1)).mean()) / ((n - 1) * (n - 2))
    second, third = 2 * b1 - b0, 6 * b2 - 6 * b1 + b0
    c = 2 / (3 + third / second) - np.log(2) / np.log(3)
    shape = float(np.clip(7.8590 * c + 2.9554 * c**2, -0.9, 0.9))
    if abs(shape) < 1e-6:
        shape = 1e-6
    scale = second * shape / ((1 - 2.0**-shape) * float(gamma(1 + shape)))
    return np.array([shape, b0 - scale * (1 - float(gamma(1 + shape))) / shape, np.log(scale)])
