"""The radius that hits among samples certify: wrong as rarely as it says, and Clopper and Pearson's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm
from statsmodels.stats.proportion import proportion_confint

from robusteval.numerics.binomial import certified_radius


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("samples", [1, 20, 150])
def test_certified_radius_is_wrong_with_probability_at_most_alpha(samples: int, alpha: float) -> None:
    """Exactly, by summing the binomial distribution over all counts, for many true probabilities."""
    counts = np.arange(samples + 1)
    radius = certified_radius(counts, samples, alpha, 0.5)
    assert (np.diff(radius) >= 0).all()
    for p in np.linspace(0.5, 0.999, 60):
        wrong = radius > 0.5 * norm.ppf(p)
        assert binom.pmf(counts[wrong], samples, p).sum() <= alpha + 1e-12


def test_certified_radius_rests_on_clopper_and_pearson() -> None:
    counts = np.arange(1, 101)
    radius = certified_radius(counts, 100, 0.001, 2.0)
    lower, _ = proportion_confint(counts, 100, alpha=0.002, method="beta")
    expected = np.where(lower > 0.5, 2 * norm.ppf(lower), 0)
    assert np.allclose(radius, expected, rtol=1e-12)
    assert (radius <= expected).all()
    assert certified_radius(np.array([0]), 100, 0.001, 2.0) == 0
