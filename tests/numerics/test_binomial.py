"""Bounds from counts: in exact arithmetic, by exact probabilities, and against other libraries."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, multinomial
from statsmodels.stats.proportion import proportion_confint

from robusteval.numerics.binomial import (
    anytime_lower,
    anytime_radius,
    anytime_upper,
    certified_radius,
    fixed_lower,
    gaussian_radius,
    majority,
)

Bound = Callable[[NDArray[np.int64], int, float], NDArray[np.float64]]

mpmath = pytest.importorskip("mpmath")


def tail(count: int, samples: int, p: float) -> Fraction:
    """P(Binomial(samples, p) >= count) without any rounding."""
    hit, all_ = Fraction(p).as_integer_ratio()
    miss = all_ - hit
    powers = list(accumulate(range(samples), lambda power, _: power * miss, initial=1))
    total, power = 0, hit**count
    for i in range(count, samples + 1):
        total += comb(samples, i) * power * powers[samples - i]
        power *= hit
    return Fraction(total, all_**samples)


def wealth(count: int, samples: int, p: float) -> Fraction:
    """W(p) without any rounding: Gamma(k + 1/2) = sqrt(pi) (2k)! / (4^k k!)."""
    misses = samples - count
    share = Fraction(
        factorial(2 * count) * factorial(2 * misses),
        4**samples * factorial(count) * factorial(misses) * factorial(samples),
    )
    return share / (Fraction(p) ** count * (1 - Fraction(p)) ** misses)


@pytest.mark.parametrize("alpha", [1e-9, 0.001, 0.05])
@pytest.mark.parametrize("samples", [1, 7, 100, 300])
def test_the_fixed_bound_holds_in_exact_arithmetic(samples: int, alpha: float) -> None:
    counts = np.unique(np.linspace(1, samples, 9).astype(np.int64))
    for count, p in zip(counts.tolist(), fixed_lower(counts, samples, alpha).tolist(), strict=True):
        assert tail(count, samples, p) <= Fraction(alpha), "the bound is too high"
        assert tail(count, samples, p * (1 + 1e-9)) > Fraction(alpha), "the bound is needlessly low"


def test_the_fixed_bound_is_clopper_pearsons() -> None:
    counts = np.arange(5001)
    expected, _ = proportion_confint(counts, 5000, alpha=0.002, method="beta")
    found = fixed_lower(counts, 5000, 0.001)
    assert np.allclose(found, expected, rtol=1e-11, atol=0)
    assert found[0] == 0
    each = np.array([fixed_lower(k, n, 0.01).item() for k, n in ((3, 5), (0, 2), (90, 100))])
    assert np.array_equal(fixed_lower([3, 0, 90], [5, 2, 100], 0.01), each), "samples may differ by image"


@pytest.mark.parametrize("alpha", [1e-9, 0.001, 0.05])
@pytest.mark.parametrize("samples", [1, 7, 100, 1000])
def test_the_anytime_bound_holds_in_exact_arithmetic(samples: int, alpha: float) -> None:
    counts = np.unique(np.linspace(samples / 2 + 1, samples, 9).astype(np.int64))
    for count, p in zip(counts.tolist(), anytime_lower(counts, samples, alpha).tolist(), strict=True):
        assert 0 < p < count / samples
        assert wealth(count, samples, p) >= 1 / Fraction(alpha), "the bound is too high"
        assert wealth(count, samples, p * (1 + 1e-9)) < 1 / Fraction(alpha), "the bound is needlessly low"


def test_the_anytime_bounds_mirror_each_other() -> None:
    counts = np.arange(301)
    lower, upper = anytime_lower(counts, 300, 0.01), anytime_upper(counts, 300, 0.01)
    assert lower[0] == 0
    assert upper[-1] == 1
    assert (np.diff(lower) > 0).all()
    assert (lower[1:] < counts[1:] / 300).all()
    assert np.array_equal(upper, 1 - lower[::-1])


def ever_wrong(bound: Bound, p: float, alpha: float, samples: int) -> float:
    """The exact probability that the bound exceeds p at any of 1, ..., `samples` draws, looked at after each."""
    alive, wrong = np.ones(1), 0.0
    for n in range(1, samples + 1):
        alive = (1 - p) * np.append(alive, 0.0) + p * np.append(0.0, alive)
        above = bound(np.arange(n + 1), n, alpha) > p
        wrong += float(alive[above].sum())
        alive[above] = 0
    return wrong


@pytest.mark.parametrize("p", [0.03, 0.5, 0.841, 0.9])
@pytest.mark.parametrize("alpha", [0.001, 0.1])
def test_the_anytime_bound_may_be_looked_at_after_each_draw(p: float, alpha: float) -> None:
    """By following the distribution of the count: no simulation."""
    wrong = ever_wrong(anytime_lower, p, alpha, 300)
    assert wrong <= alpha
    assert wrong >= alpha / 50, "a bound that is never wrong would pass as well"


def test_the_fixed_bound_may_not() -> None:
    assert ever_wrong(fixed_lower, 0.841, 0.1, 300) > 0.2


@given(p=st.floats(0.5, 1, exclude_min=True, exclude_max=True), sigma=st.floats(1e-3, 1e3))
@settings(max_examples=200, deadline=None)
def test_a_radius_is_rounded_down_and_by_no_more_than_float_precision(p: float, sigma: float) -> None:
    """Phi at the radius and a little further out, in 60 digits."""
    radius = gaussian_radius(p, sigma).item()
    with mpmath.workdps(60):
        at, further = (mpmath.mpf(radius) / mpmath.mpf(sigma) * factor for factor in (1, 1 + mpmath.mpf(2) ** -47))
        assert mpmath.ncdf(at) < mpmath.mpf(p) < mpmath.ncdf(further)


def test_no_radius_without_a_majority() -> None:
    assert gaussian_radius([0.0, 0.3, 0.5], 0.25).tolist() == [0, 0, 0]
    assert gaussian_radius(np.nextafter(0.5, 1), 0.25) > 0
    assert certified_radius([0, 10], 20, 0.001, 0.25).tolist() == [0, 0]
    assert anytime_radius([0, 10], 20, 0.001, 0.25).tolist() == [0, 0]


def test_more_hits_and_more_room_for_error_certify_more_and_any_time_costs_something() -> None:
    counts = np.arange(1001)
    for radius in (certified_radius, anytime_radius):
        found = radius(counts, 1000, 0.001, 0.5)
        assert (np.diff(found) >= 0).all()
        assert (radius(counts, 1000, 0.01, 0.5)[600:] > found[600:]).all()
        assert np.allclose(radius(counts, 1000, 0.001, 1.0), 2 * found, rtol=1e-14)
    assert (anytime_radius(counts, 1000, 0.001, 0.5) <= certified_radius(counts, 1000, 0.001, 0.5)).all()


@pytest.mark.parametrize("alpha", [0.001, 0.1, 0.5])
def test_majority_is_the_two_sided_binomial_test(alpha: float) -> None:
    pairs = [(k, other) for k in range(1, 41) for other in range(k + 1)]
    first, second = np.array(pairs).T
    found = majority(first, second, alpha)
    assert found.tolist() == [binomtest(k, k + other).pvalue <= alpha for k, other in pairs]
    assert not majority(7, 7, 0.999)


def test_a_majority_of_many_classes_is_wrong_with_probability_at_most_alpha() -> None:
    """Over all outcomes of 60 votes for three classes, the first by a little the most likely."""
    outcomes = np.array([(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)])
    for p in ((0.34, 0.33, 0.33), (0.45, 0.44, 0.11), (0.501, 0.499, 0.0)):
        probability = multinomial.pmf(outcomes, 60, p)
        ranked = np.sort(outcomes, axis=1)
        named = majority(ranked[:, 2], ranked[:, 1], 0.1)
        wrong = probability[named & (outcomes.argmax(1) != 0)].sum()
        assert 0.001 < wrong <= 0.1
