"""Smoothing that stops early, against simulated votes and networks whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom, norm

from robusteval.certify.smoothing import sequential as smoothing_sequential
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.certify.smoothing.sequential import SmoothingSequential
from robusteval.numerics.binomial import anytime_radius, anytime_upper, certified_radius, fixed_lower
from robusteval.numerics.noise import BLOCK
from smoothed import RARE, RUNS, certify, kept, linear, streams_of

Counts = NDArray[np.int64]


QUESTIONS = {
    "radius": SmoothingSequential(sigma=0.25, radius=0.25, n=1500, alpha=0.05),
    "largest": SmoothingSequential(sigma=0.25, n=1500, alpha=0.05),
}


BELOW = norm.cdf(1) - 1e-9
"""Just too small for radius = sigma: the worst case of that question."""


def simulate(certificate: SmoothingSequential, p: float, runs: int = RUNS) -> tuple[Counts, Counts]:
    """Hits and samples of certificates whose votes are hits with probability p."""
    rng = np.random.default_rng(2)
    return certificate.sample(runs, lambda rows, draws: rng.binomial(draws, p, len(rows)))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("p", [0.5 + 1e-9, 0.6, BELOW, 0.99])
def test_simulated_sequential_certificates_are_wrong_as_rarely_as_alpha_says(p: float, question: str) -> None:
    certificate = QUESTIONS[question]
    count, samples = simulate(certificate, p)
    radius = anytime_radius(count, samples, certificate.alpha, certificate.sigma)
    wrong = int((radius > certificate.sigma * norm.ppf(p)).sum())
    assert binom.sf(wrong - 1, RUNS, certificate.alpha) > 0.001
    assert (samples <= certificate.n).all()
    assert (count <= samples).all()


def test_the_simulation_would_see_a_bound_that_stopping_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clopper-Pearson looked at after each round."""
    monkeypatch.setattr(smoothing_sequential, "anytime_lower", fixed_lower)
    monkeypatch.setattr(smoothing_sequential, "anytime_radius", certified_radius)
    certificate = QUESTIONS["radius"]
    count, samples = simulate(certificate, BELOW)
    wrong = int((certified_radius(count, samples, certificate.alpha, 0.25) > 0.25 * norm.ppf(BELOW)).sum())
    assert binom.sf(wrong - 1, RUNS, certificate.alpha) < RARE


def test_clear_cases_are_decided_early_and_in_the_right_way() -> None:
    certificate = SmoothingSequential(sigma=0.25, radius=0.25, n=100_000)
    for p, certified, most in ((1.0, True, 64), (0.99, True, 160), (0.5, False, 96), (0.0, False, 64)):
        count, samples = simulate(certificate, p)
        radius = anytime_radius(count, samples, certificate.alpha, certificate.sigma)
        assert ((radius >= 0.25) == certified).mean() > 0.999
        assert samples.mean() <= most
        assert (samples % BLOCK == 0).all()


def test_the_largest_radius_is_within_its_precision_of_what_is_in_reach() -> None:
    """0.9 is decided by the upper sequence, 1 by what n samples could give at most; both before n."""
    certificate = SmoothingSequential(sigma=0.5, precision=0.1, n=40_000)
    for p in (0.9, 1.0):
        count, samples = simulate(certificate, p, runs=500)
        radius = anytime_radius(count, samples, certificate.alpha, certificate.sigma)
        assert samples.max() < certificate.n
        ideal = anytime_radius(certificate.n, certificate.n, certificate.alpha, certificate.sigma)
        assert (radius >= 0.9 * min(ideal, 0.5 * norm.ppf(p))).mean() > 0.99


def test_an_image_given_up_keeps_the_radius_that_it_has() -> None:
    certificate = SmoothingSequential(sigma=0.25, radius=0.25, n=1001)
    count, samples = simulate(certificate, norm.cdf(1.0), runs=500)
    radius = anytime_radius(count, samples, certificate.alpha, certificate.sigma)
    assert 0 < (radius < 0.25).mean() <= 1
    assert (radius > 0.1).all()


def test_no_image_gets_more_than_n_samples() -> None:
    certificate = SmoothingSequential(sigma=0.25, precision=1e-12, n=1001)
    _, samples = simulate(certificate, 0.9, runs=50)
    assert (samples == 1001).all()


def test_hopeless_images_are_given_up_before_n() -> None:
    """Where all samples to come could not save it, though the upper sequence still allows the radius."""
    certificate = SmoothingSequential(sigma=0.25, radius=0.25, n=100)
    assert anytime_upper(26, 32, certificate.alpha) > norm.cdf(1.0)
    _, samples = certificate.sample(1, lambda rows, draws: np.full(len(rows), 26))
    assert samples.tolist() == [32]


@pytest.mark.parametrize("asked", [0.3, None])
def test_sequential_smoothing_of_a_linear_network_meets_the_exact_radius(asked: float | None) -> None:
    """g = f there, so the exact radius is the distance to the plane."""
    classifier, images, exact = linear(300)
    certificate = SmoothingSequential(sigma=0.4, radius=asked, precision=0.2, n0=200, n=4000, alpha=0.05)
    view = classifier.metered(300)
    radii = certificate.radii(view, images, (), streams_of(images))
    radius, named = radii.radius.numpy(), (radii.predicted == images.labels).numpy()
    assert np.where(named, radius > exact, radius > 0).sum() <= binom.isf(RARE, 300, certificate.alpha)
    count, samples = (kept(radii)[quantity, 0.4] for quantity in ("smoothing_count", "smoothing_samples"))
    assert np.array_equal(anytime_radius(count, samples, 0.05, 0.4), radius)
    assert np.array_equal(view.meter.forwards.numpy(), 200 + samples)
    assert len(np.unique(samples)) > 3
    assert np.array_equal(radii.abstained.numpy(), radius == 0)
    if asked is None:
        clear = exact > 0.2
        assert (radius[clear] > 0.6 * np.minimum(exact[clear], 1.0)).all()
    else:
        assert (radius[exact > 0.4] >= asked).all()
        assert (radius[exact < 0.25] < asked).mean() > 0.9
        assert samples[exact > 0.6].mean() < 100
    assert certificate.subject == "smooth(f, 0.4)"


def test_sequential_and_fixed_agree_on_what_is_certified() -> None:
    classifier, images, exact = linear(200)
    images = images.select(torch.from_numpy(np.abs(exact - 0.3) > 0.08))
    fixed = certify(Smoothing(sigma=0.4, n=2000), classifier, images).radius >= 0.3
    radii = certify(SmoothingSequential(sigma=0.4, radius=0.3), classifier, images)
    assert torch.equal(fixed, radii.radius >= 0.3)
    assert 0.2 < fixed.double().mean() < 0.9
    assert kept(radii)["smoothing_samples", 0.4].mean() < 300
