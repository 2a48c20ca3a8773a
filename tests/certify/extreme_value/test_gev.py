"""The GEV fit against simulated data, a brute-force search, finite differences and its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import binom, genextreme

from robusteval.certify.extreme_value.gev import Fit, fit
from robusteval.certify.extreme_value.goodness import anderson_darling, p_value, standard_errors
from robusteval.certify.extreme_value.likelihood import loss, quantile

Floats = NDArray[np.float64]


def simulated(shape: float, n: int, seed: int) -> Floats:
    x: Floats = genextreme.rvs(shape, 3.0, 2.0, size=n, random_state=np.random.default_rng(seed))
    return x


def nllf(x: Floats, shape: float, loc: float, scale: float) -> float:
    return float(-genextreme.logpdf(x, shape, loc, scale).sum())


@pytest.mark.parametrize("shape", [-0.7, -0.2, -1e-4, -1e-9, 0.0, 1e-12, 1e-5, 2e-3, 0.3, 0.9])
def test_likelihood_and_its_gradient_match_scipy_and_differences(shape: float) -> None:
    x = genextreme.rvs(shape, size=200, random_state=np.random.default_rng(2))
    theta = np.array([shape, -0.2, 0.4])
    value, gradient = loss(theta, x)
    assert value == pytest.approx(nllf(x, shape, -0.2, math.exp(0.4)) / 200, rel=1e-9)
    steps = 1e-6 * np.eye(3)
    differences = [(loss(theta + h, x)[0] - loss(theta - h, x)[0]) / 2e-6 for h in steps]
    assert gradient == pytest.approx(differences, abs=2e-8 * max(1, np.abs(differences).max()))


def test_the_likelihood_is_infinite_outside_of_the_support() -> None:
    value, gradient = loss(np.array([0.5, 0.0, 0.0]), np.array([0.0, 2.5]))
    assert value == math.inf
    assert (gradient == 0).all()


@pytest.mark.parametrize("shape", [-0.3, 0.0, 1e-9, 0.4])
@pytest.mark.parametrize("p", [0.001, 0.3])
def test_the_quantile_is_scipys(shape: float, p: float) -> None:
    assert quantile(np.array([shape, 1.0, math.log(2)]), p) == pytest.approx(genextreme.isf(p, shape, 1.0, 2.0))


def test_without_a_probability_the_quantile_is_the_upper_end() -> None:
    assert quantile(np.array([0.25, 1.0, 0.0]), 0.0) == pytest.approx(5.0)
    assert quantile(np.array([-0.1, 1.0, 0.0]), 0.0) == quantile(np.array([0.0, 1.0, 0.0]), 0.0) == math.inf


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.0, 0.2, 0.4])
def test_the_fit_recovers_the_parameters(shape: float) -> None:
    """Within 4.5 standard errors."""
    x = simulated(shape, 2000, 11)
    found = fit(x, 0.001)
    errors = np.array(standard_errors(x, found, 0.001))
    assert np.isfinite(errors).all()
    level = genextreme.isf(0.001, found.shape, found.loc, found.scale)
    truth = [shape, 3.0, 2.0, genextreme.isf(0.001, shape, 3.0, 2.0)]
    assert (np.abs(np.array([found.shape, found.loc, found.scale, level]) - truth) < 4.5 * errors).all()
    assert found.estimate == pytest.approx(max(level, x.max()))
    assert found.code is not Fit.UNBOUNDED or found.shape <= 0


@pytest.mark.parametrize("shape", [-0.15, 0.2])
def test_standard_errors_are_those_of_repeated_samples(shape: float) -> None:
    """The spread over 400 samples is known to 1 / sqrt(800) = 3.5 %: within 4.5 times that, plus 4 % that 500 maxima
    may be from the asymptote."""
    rows = []
    for seed in range(400):
        x = simulated(shape, 500, seed)
        found = fit(x, 0.05)
        level = genextreme.isf(0.05, found.shape, found.loc, found.scale)
        rows.append([found.shape, found.loc, found.scale, level, *standard_errors(x, found, 0.05)])
    table = np.array(rows)
    ratio = np.median(table[:, 4:], axis=0) / table[:, :4].std(axis=0)
    assert np.abs(ratio - 1).max() < 4.5 * 0.035 + 0.04


def brute_force(x: Floats) -> float:
    """The smallest negative log likelihood with |c| < 1: a grid of 17 x 31 x 21, its best ten polished."""
    z = (x - x.mean()) / x.std()
    axes = np.linspace(-0.95, 0.95, 17), np.linspace(-1.6, 1.2, 31), np.linspace(-1.8, 0.6, 21)
    grid = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    values = -genextreme.logpdf(z, *grid.T[:2, :, None], np.exp(grid[:, 2:])).sum(1)

    def outside(theta: Floats) -> float:
        return nllf(z, theta[0], theta[1], math.exp(theta[2])) if abs(theta[0]) < 1 else math.inf

    tight = {"xatol": 1e-7, "fatol": 1e-9, "maxfev": 2000}
    found = [minimize(outside, start, method="Nelder-Mead", options=tight) for start in grid[values.argsort()[:10:3]]]
    return float(min(f.fun for f in found)) + len(x) * math.log(x.std())


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_is_not_missed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.choice([12, 30, 50, 200]))
    x = [
        genextreme.rvs(rng.uniform(-0.6, 0.6), size=n, random_state=rng),
        rng.gamma(2, size=(n, 30)).max(1),
        rng.beta(2, 3, size=(n, 5)).max(1),
        rng.standard_t(3, size=(n, 20)).max(1),
    ][seed % 4]
    found = fit(x, 0.001)
    assert nllf(x, found.shape, found.loc, found.scale) <= brute_force(x) + 1e-4


@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
@settings(max_examples=8, deadline=None)
def test_the_fit_moves_with_the_data(scale: float, shift: float) -> None:
    x = genextreme.rvs(0.1, size=50, random_state=np.random.default_rng(1))
    base, moved = fit(x, 0.001), fit(scale * (x + shift), 0.001)
    assert moved.shape == pytest.approx(base.shape, abs=1e-5)
    assert moved.estimate == pytest.approx(scale * (base.estimate + shift), abs=1e-4 * scale)
    errors = np.array(standard_errors(x, base, 0.001))
    of_moved = standard_errors(scale * (x + shift), moved, 0.001)
    assert of_moved == pytest.approx(errors * [1, scale, scale, scale], rel=1e-3)


# What is said of a fit


@pytest.mark.parametrize(
    ("maxima", "code"),
    [
        ([], Fit.TOO_FEW),
        ([1.0, 2.0], Fit.TOO_FEW),
        ([0.0] * 50, Fit.TIED),
        ([3.0] * 50, Fit.TIED),
        ([3.0 + 1e-12 * i for i in range(50)], Fit.TIED),
        ([0.0] * 30 + [float(i) for i in range(20)], Fit.TIED),
        ([1.0] * 49 + [math.inf], Fit.NOT_FINITE),
        ([1.0] * 49 + [math.nan], Fit.NOT_FINITE),
    ],
)
def test_it_says_why_it_did_not_fit(maxima: list[float], code: Fit) -> None:
    x = np.array(maxima)
    found = fit(x, 0.001)
    assert found.code is code
    assert math.isnan(found.shape)
    expected = math.inf if code is Fit.NOT_FINITE else max(maxima, default=-math.inf)
    assert found.estimate == expected
    assert np.isnan(standard_errors(x, found, 0.001)).all()
    assert math.isnan(p_value(x, found, np.random.default_rng(0), refits=1))


def test_an_estimate_is_raised_to_what_was_observed() -> None:
    x = genextreme.rvs(0.3, size=100, random_state=np.random.default_rng(4))
    free = fit(x, 0.001)
    assert free.code is Fit.FITTED
    raised = fit(x, 0.001, observed=free.estimate + 1)
    assert raised.code is Fit.RAISED
    assert raised.estimate == free.estimate + 1


def test_a_tail_without_an_end_is_named() -> None:
    found = fit(simulated(-0.4, 500, 0), 0.1, observed=0.0)
    assert found.code is Fit.UNBOUNDED
    assert found.shape < 0
    assert found.estimate == pytest.approx(genextreme.isf(0.1, found.shape, found.loc, found.scale))


def test_the_shape_stops_at_the_limit_where_the_likelihood_has_no_maximum() -> None:
    """At c = 1 the likelihood is largest where the end meets the largest value, with a scale of the mean distance."""
    x = 1 - np.random.default_rng(0).random(50) ** 3
    found = fit(x, 0.001)
    assert found.code is Fit.AT_LIMIT
    assert (found.shape, found.loc + found.scale) == pytest.approx((1.0, x.max()), abs=1e-6)
    assert found.scale == pytest.approx(np.mean(x.max() - x), rel=1e-6)
    assert np.isnan(standard_errors(x, found, 0.001)).all()


def test_there_are_no_standard_errors_where_maximum_likelihood_has_none() -> None:
    x = genextreme.rvs(0.75, size=2000, random_state=np.random.default_rng(1))
    found = fit(x, 0.001)
    assert 0.5 < found.shape < 1
    assert np.isnan(standard_errors(x, found, 0.001)).all()


def test_the_upper_end_is_kept_from_being_anywhere() -> None:
    """A Gumbel tail has no end: free fits put it anywhere, the limit of the shape at 10 scales."""
    ends = []
    for seed in range(30):
        found = fit(simulated(0.0, 50, seed), 0.0, shapes=(0.1, 1.0))
        assert found.shape >= 0.1
        assert found.estimate <= max(found.loc + 10 * found.scale, found.observed) * (1 + 1e-12)
        ends.append(found.estimate)
        assert (found.code is Fit.AT_LIMIT) == (found.shape < 0.1 + 1e-6)
    assert max(ends) / min(ends) < 3
    assert fit(simulated(0.4, 500, 1), 0.0, shapes=(0.1, 1.0)).estimate == pytest.approx(3 + 2 / 0.4, rel=0.1)


@given(arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e300, 1e300)))
@settings(max_examples=25, deadline=None)
def test_it_never_fails(maxima: Floats) -> None:
    found = fit(maxima, 0.001)
    assert found.n == len(maxima)
    assert not math.isnan(found.estimate)
    assert found.estimate >= np.max(maxima, initial=-np.inf)
    assert all(math.isnan(e) or e > 0 for e in standard_errors(maxima, found, 0.001))
    assert math.isnan(found.shape) or 0 < p_value(maxima, found, np.random.default_rng(0), refits=2) <= 1


# Goodness of fit


def test_the_statistic_is_the_integral_that_defines_it() -> None:
    """A^2 = n times the integral of (F_n - F)^2 / (F (1 - F)) dF, here by the midpoint rule."""
    x = np.sort(genextreme.rvs(0.2, size=20, random_state=np.random.default_rng(3)))
    u = (np.arange(2_000_000) + 0.5) / 2_000_000
    below = np.searchsorted(genextreme.cdf(x, 0.1), u) / 20
    integral = 20 * np.mean((below - u) ** 2 / (u * (1 - u)))
    assert anderson_darling(x[None], np.array([[0.1, 0.0, 0.0]]))[0] == pytest.approx(integral, rel=1e-3)


@pytest.mark.parametrize("shape", [-0.3, 0.3])
def test_p_values_are_uniform_under_the_model(shape: float) -> None:
    """60 samples of 40 maxima with 19 refits: each threshold is met as often as a binomial count may be."""
    found = []
    for seed in range(60):
        x = simulated(shape, 40, seed)
        found.append(p_value(x, fit(x, 0.001), np.random.default_rng(seed), refits=19))
    for threshold in (0.1, 0.25, 0.5, 0.75):
        count = int((np.array(found) <= threshold + 1e-9).sum())
        assert binom.ppf(1e-4, 60, threshold) <= count <= binom.isf(1e-4, 60, threshold)


def test_p_values_are_small_for_another_distribution() -> None:
    rng = np.random.default_rng(5)
    two_humps = np.concatenate([rng.normal(0, 1, 60), rng.normal(7, 1, 60)])
    assert p_value(two_humps, fit(two_humps, 0.001), rng, refits=99) == pytest.approx(0.01)


def test_the_p_value_follows_its_stream() -> None:
    x = simulated(0.1, 30, 0)
    first, again, other = (p_value(x, fit(x, 0.001), np.random.default_rng(s), refits=50) for s in (1, 1, 2))
    assert first == again != other
