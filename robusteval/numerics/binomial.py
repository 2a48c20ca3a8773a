"""What a count says about an unknown probability p, and what p says about a radius. Pure numpy: no torch.

Of `samples` independent draws, each a hit with probability p, `count` were hits. Everything is vectorised over
images: counts and samples broadcast. Lower bounds are below what the formula gives, never above it: each function
says how much it gives up to the rounding of float64.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, betaln, ndtri, xlog1py, xlogy
from scipy.stats import binom

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def certified_radius(count: ArrayLike, samples: ArrayLike, alpha: float, sigma: float) -> Floats:
    """The radius that `count` of a number of samples fixed beforehand certifies; 0 for none (Cohen et al. 2019)."""
    return gaussian_radius(fixed_lower(count, samples, alpha), sigma)


def fewest(enough: Callable[[int], bool]) -> int:
    """The smallest number of samples that is `enough`, for what stays true from some number on."""
    high = 1
    while not enough(high):
        high *= 2
    return bisect_left(range(high), True, lo=high // 2, key=enough)


def anytime_radius(count: ArrayLike, samples: ArrayLike, alpha: float, sigma: float) -> Floats:
    """The same for any number of samples, chosen by looking at them; 0 for none."""
    return gaussian_radius(anytime_lower(count, samples, alpha), sigma)


def gaussian_radius(p: ArrayLike, sigma: float) -> Floats:
    """sigma * Phi^-1(p), and 0 where p <= 1/2: within it Gaussian noise keeps the class that it names with probability
    p < 1 (Cohen et al. 2019, theorem 1 with 1 - p for all other classes).

    1 - p is exact for p >= 1/2. The factor covers scipy's ndtri, within 7.2e-16 (Cephes), and two products.
    """
    q = 1 - np.asarray(p, dtype=np.float64)
    return np.where(q < 0.5, -sigma * ndtri(q) * (1 - 2.0**-49), 0.0)


def fixed_lower(count: ArrayLike, samples: ArrayLike, alpha: float) -> Floats:
    """A number above p with probability at most alpha, for a number of samples fixed beforehand (Clopper and Pearson).

    It is the p at which Binomial(samples, p) >= count has probability alpha; scipy's inverse is lowered until the
    probability itself is at most alpha * (1 - 1e-12). scipy's is within 7e-13 of it up to a million samples.
    """
    k, n = _broadcast(count, samples)
    a = np.maximum(k, 1)
    b = n - a + 1
    p, step = betaincinv(a, b, alpha), 2.0**-52
    while (above := betainc(a, b, p) > alpha * (1 - 1e-12)).any():
        p, step = np.where(above, p * (1 - step), p), 2 * step
    return np.where(k > 0, p, 0.0)


def anytime_lower(count: ArrayLike, samples: ArrayLike, alpha: float) -> Floats:
    """A number that is above p with probability at most alpha at any number of samples, and at all of them together.

    For the true p, the likelihood of the draws averaged over a prior, divided by their likelihood at p,

        W(p) = B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k (1 - p)^(n - k)),     k hits in n draws,

    is a martingale that starts at 1, so that it ever reaches 1 / alpha with probability at most alpha (Ville 1939;
    Robbins 1970; the prior is Beta(1/2, 1/2), as of Krichevsky and Trofimov 1981). Below k / n, W falls with p:
    the bound is the largest p <= k / n with W(p) >= 1 / alpha. The logarithm of W is asked for 1e-14 n ln(n + 1) more,
    which covers the rounding of ln B.
    """
    k, n = _broadcast(count, samples)
    needed = 1e-14 * n * np.log1p(n) - np.log(alpha) - (betaln(k + 0.5, n - k + 0.5) - np.log(np.pi))
    low, high = np.zeros_like(k), k / n
    for _ in range(60):
        middle = (low + high) / 2
        enough = -xlogy(k, middle) - xlog1py(n - k, -middle) >= needed
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return low


def anytime_upper(count: ArrayLike, samples: ArrayLike, alpha: float) -> Floats:
    """The same from above: below p with probability at most alpha."""
    k, n = _broadcast(count, samples)
    return 1 - anytime_lower(n - k, n, alpha)


def majority(first: ArrayLike, second: ArrayLike, alpha: float) -> Flags:
    """Whether `first` >= `second` votes tell the two classes apart: the two-sided exact test of equal probability
    rejects at level alpha (Cohen et al. 2019, PREDICT; Hung and Fithian 2019 for why the top two may be compared)."""
    k, other = _broadcast(first, second)
    return np.asarray(2 * binom.sf(k - 1, k + other, 0.5) <= alpha)


def _broadcast(count: ArrayLike, samples: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(count, dtype=np.float64), np.asarray(samples, dtype=np.float64))
    return k, n
