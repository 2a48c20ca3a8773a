"""Answers that are not finite: votes for nobody, counted; and samples that could certify nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import binom, norm
from torch import Tensor, nn

from metric_cases import curve, measure
from robusteval.certify.smoothing.base import Smoothed
from robusteval.certify.smoothing.envelope import SmoothingEnvelope
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.certify.smoothing.sequential import SmoothingSequential
from robusteval.core.images import Images
from robusteval.metrics.noise import NoiseRobustness
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.numerics.binomial import certified_radius
from smoothed import RARE, certify, kept

SIGMA = 0.25


class Gamma(nn.Module):
    """Gamma correction: NaN where the pixel is negative; class 1 of what is finite."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright = pixels.flatten(1)[:, 0] ** (1 / 2.2)
        return torch.stack([bright - bright, 1 + bright], dim=1)


def gamma(n: int, at: float) -> tuple[Classifier, Images]:
    images = Images(tuple(map(str, range(n))), torch.full((n, 1, 1, 1), at), torch.ones(n, dtype=torch.int64))
    return make_classifier("gamma", Gamma(), (1, 1, 1)), images


CERTIFICATES = (
    Smoothing(sigma=SIGMA, n=200),
    SmoothingEnvelope(sigmas=(SIGMA,), n=200),
    SmoothingSequential(sigma=SIGMA, n=200),
)


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda c: c.name)
def test_what_is_not_finite_is_a_vote_for_nobody(certificate: Smoothed) -> None:
    """A pixel at sigma / 2 stays positive with probability Phi(1 / 2): that is what class 1 may get, of all samples."""
    p = norm.cdf(0.5)
    radii = certify(certificate, *gamma(200, SIGMA / 2))
    counts = kept(radii)
    votes, samples = counts["smoothing_count", SIGMA], counts["smoothing_samples", SIGMA]
    assert (radii.predicted == 1).all()
    assert binom.ppf(RARE, samples.sum(), p) <= votes.sum() <= binom.isf(RARE, samples.sum(), p)
    # Whatever is no vote for class 1 is not finite here, among the samples that chose the class too.
    lost = counts["non_finite", SIGMA]
    assert (lost >= samples - votes).all()
    everything = samples + certificate.n0
    assert binom.ppf(RARE, everything.sum(), 1 - p) <= lost.sum() <= binom.isf(RARE, everything.sum(), 1 - p)
    assert (radii.radius.numpy() <= SIGMA * norm.ppf(p) + 0.1).all()


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda c: c.name)
def test_nothing_but_nan_certifies_nothing(certificate: Smoothed) -> None:
    radii = certify(certificate, *gamma(3, -10.0))
    assert radii.abstained.all()
    assert (radii.radius == 0).all()
    assert (kept(radii)["smoothing_count", SIGMA] == 0).all()


def test_a_prediction_needs_votes() -> None:
    classifier, images = gamma(2, -10.0)
    found = measure(SmoothedPrediction(sigma=SIGMA, n=50), classifier, images)
    assert curve(found, "smoothed_class").isnan().all()
    assert (curve(found, "non_finite") == 50).all()


def test_noise_keeps_no_prediction_that_is_not_finite() -> None:
    """Without the count, NaN beside NaN is the same class."""
    classifier, images = gamma(2, -10.0)
    metric = NoiseRobustness(sigmas=(0.0, SIGMA), samples=4, early_stop=False)
    found = measure(metric, classifier, images)
    assert (curve(found, "kept") == 0).all()
    assert (curve(found, "kept_single") == 0).all()
    assert (curve(found, "noise_area_probability") == 0).all()
    # The clean answer, the single copy, four copies.
    assert (curve(found, "non_finite") == 6).all()


def test_noise_that_makes_answers_not_finite_takes_the_prediction() -> None:
    classifier, images = gamma(500, SIGMA / 2)
    found = measure(NoiseRobustness(sigmas=(SIGMA,), samples=10, early_stop=False), classifier, images)
    told = float(curve(found, "kept_probability").mean())
    draws = 500 * 10
    assert binom.ppf(RARE, draws, norm.cdf(0.5)) <= round(told * draws) <= binom.isf(RARE, draws, norm.cdf(0.5))
    single = 1 - curve(found, "kept_single").sum(0)
    copies = 10 * (1 - curve(found, "kept_probability").sum(0))
    assert torch.allclose(curve(found, "non_finite")[0], single + copies)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.001, 1e-9])
def test_samples_that_could_certify_nothing_are_refused(alpha: float) -> None:
    """alpha^(1/n) > 1/2."""
    least = next(n for n in range(1, 100) if alpha ** (1 / n) > 0.5 + 1e-9)
    assert Smoothing(n=least, alpha=alpha).n == least
    assert certified_radius(least, least, alpha, 1.0) > 0
    if least > 1:
        with pytest.raises(ValidationError, match=rf"expected n of at least {least} at alpha = {alpha:g}, got"):
            Smoothing(n=least - 1, alpha=alpha)


def test_each_kind_of_smoothing_names_its_own_least_number() -> None:
    with pytest.raises(ValidationError, match=r"expected n of at least 10 .* got 5"):
        Smoothing(n=5)
    # alpha is shared by the sigmas: 0.001 / 4.
    with pytest.raises(ValidationError, match=r"expected n of at least 12 .* got 11"):
        SmoothingEnvelope(sigmas=(0.1, 0.2, 0.3, 0.4), n=11)
    # W at 1/2 of n hits in n: 2^n binom(2n, n) / 4^n reaches 1000 at n = 13.
    ratio = [2.0**n * np.prod([(k - 0.5) / k for k in range(1, n + 1)]) for n in range(1, 20)]
    least = 1 + int(np.argmax(np.array(ratio) >= 1000))
    with pytest.raises(ValidationError, match=rf"expected n of at least {least} .* got 5"):
        SmoothingSequential(n=5)
    # Two-sided: 2 * 0.5^n <= 0.001.
    with pytest.raises(ValidationError, match=r"expected n of at least 11 .* got 10"):
        SmoothedPrediction(n=10)
