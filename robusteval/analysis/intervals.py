"""95 % intervals of the numbers that a report shows: shares of images, means and medians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, t
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05


@dataclass(frozen=True)
class Proportion:
    """`count` of `n` images, and the interval of the share in the population that they were drawn from."""

    count: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.n


@dataclass(frozen=True)
class Median:
    """The median of n numbers, with its interval; any of the three may be infinite."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Mean:
    """The mean of n numbers, with its interval; NaN where there is nothing to say."""

    value: float
    low: float
    high: float
    n: int


def clopper_pearson(count: ArrayLike, n: int, alpha: float = ALPHA) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact (never too narrow) 1 - alpha interval of shares count / n, both bounds shaped as `count`."""
    low, high = proportion_confint(np.asarray(count, dtype=np.float64), n, alpha, method="beta")
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def proportion(hits: ArrayLike) -> Proportion:
    """The share of True among hits (n,), n > 0."""
    hits = np.asarray(hits, dtype=bool)
    return share(int(hits.sum()), len(hits))


def share(count: int, n: int) -> Proportion:
    """`count` of n > 0."""
    low, high = clopper_pearson(count, n)
    return Proportion(count, n, float(low), float(high))


def median(values: ArrayLike, least: float = 0.0) -> Median:
    """The median of values (n,), n > 0, infinity included, with its distribution-free interval.

    The interval is [x_(l), x_(n+1-l)] of the ordered values, with the largest l for which a Binomial(n, 1/2)
    falls below l with probability at most 2.5 % (David and Nagaraja 2003, section 7.1). Fewer than six values
    have no such l: then it is [least, infinity].
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    rank = int(binom.ppf(ALPHA / 2, n, 0.5))
    low, high = (float(x[rank - 1]), float(x[n - rank])) if rank > 0 else (least, math.inf)
    return Median(float(x[(n - 1) // 2] / 2 + x[n // 2] / 2), low, high, n)


def mean(values: ArrayLike, least: float = -math.inf) -> Mean:
    """The mean of finite values (n,) with Student's interval, which begins at `least`; approximate where n is small
    and the values are skewed."""
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Mean(math.nan, math.nan, math.nan, 0)
    value = float(x.mean())
    if len(x) == 1:
        return Mean(value, least, math.inf, 1)
    half = float(t.ppf(1 - ALPHA / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Mean(value, max(value - half, least), value + half, len(x))


def mean_share(values: ArrayLike) -> Mean:
    """The mean of values (n,) in [0, 1], n > 0, with an interval that is never too narrow.

    Toss a coin of probability x_i for each value: the heads are Binomial(n, mu), mu the mean in the population.
    Given the values, the median number of heads lies between S = sum x_i rounded down and rounded up (Jogdeo and
    Samuels 1968), so that P(S >= k) <= 2 P(heads >= k) for whole k. Clopper-Pearson's limits for S rounded down and
    for S rounded up, each at half its error, therefore hold together with 95 %, at any n and in any distribution.
    """
    x = np.asarray(values, dtype=np.float64)
    total = round(float(x.sum()), 9)
    low, high = clopper_pearson([math.floor(total), math.ceil(total)], len(x), ALPHA / 2)
    return Mean(total / len(x), float(low[0]), float(high[1]), len(x))
