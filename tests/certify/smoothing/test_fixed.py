"""Smoothing with a fixed number of samples, against known probabilities and distances, and simulated votes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from certificate_cases import run
from certifying import images_of, linear_two_class, random_images, small_net
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.models.making import make_classifier
from robusteval.numerics.binomial import certified_radius
from smoothed import RARE, RUNS, certify, kept, window


def test_the_class_is_chosen_by_other_samples_than_those_that_are_counted() -> None:
    """At p = 1/2 counts of the chosen class would be at least half if the same samples had chosen it."""
    classifier, images = window(400, at=0.7)
    radii = certify(Smoothing(sigma=0.01, n0=101, n=101), classifier, images)
    below = int((kept(radii)["smoothing_count", 0.01] < 50.5).sum())
    assert binom.ppf(RARE, 400, 0.5) <= below <= binom.isf(RARE, 400, 0.5)
    assert int((~radii.abstained).sum()) <= binom.isf(RARE, 400, 0.001)
    assert torch.equal(radii.abstained, radii.radius == 0)


@pytest.mark.parametrize("p", [0.5 + 1e-9, 0.6, 0.8413, 0.99, 0.9999])
def test_simulated_fixed_certificates_are_wrong_as_rarely_as_alpha_says(p: float) -> None:
    counts = np.random.default_rng(1).binomial(1000, p, RUNS)
    wrong = int((certified_radius(counts, 1000, 0.05, 0.25) > 0.25 * norm.ppf(p)).sum())
    assert binom.sf(wrong - 1, RUNS, 0.05) > 0.001


def test_smoothing_of_a_linear_network_meets_the_exact_radius() -> None:
    """g = f there, so the exact radius is the distance to the plane: exceeded as rarely as error says, and
    missed by no more than the sampling explains."""
    classifier, w, b = linear_two_class()
    images = random_images(400)
    z = images.pixels.flatten(1) @ w + b
    exact = (z.abs() / w.norm()).numpy()
    images = images_of(images.pixels, (z > 0).long())
    sigma, samples, error = 0.4, 300, 0.05
    certificate = Smoothing(sigma=sigma, n=samples, n0=50, alpha=error)
    _, radii = run(certificate, classifier, images)
    named = radii.predicted == images.labels
    radius = radii.radius.numpy()
    wrong = np.where(named.numpy(), radius > exact, radius > 0).sum()
    assert wrong <= binom.isf(1e-6, len(images), error)
    p = norm.cdf(exact / sigma)
    least = certified_radius(binom.ppf(1e-8, samples, p).astype(np.int64), samples, error, sigma)
    assert (radius[named.numpy()] >= least[named.numpy()]).all()
    assert (radius > 0).mean() > 0.3
    counts = {quantity: values for quantity, _, values in radii.measurements}
    assert (counts["smoothing_samples"] == samples).all()
    again = certified_radius(counts["smoothing_count"].long().numpy(), samples, error, sigma)
    assert np.array_equal(again, radius)
    assert certificate.subject == "smooth(f, 0.4)"


def test_smoothing_noise_is_not_clipped_to_the_box() -> None:
    """The class is 1 only where a pixel is below zero: half of the noise at a black image."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.bias.zero_()
    classifier = make_classifier("sign", nn.Sequential(nn.Flatten(), layer), (1, 1, 1))
    images = images_of(torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64))
    _, radii = run(Smoothing(n=400), classifier, images)
    (_, _, count), *_ = radii.measurements
    assert binom.ppf(1e-6, 400, 0.5) <= float(count) <= binom.isf(1e-6, 400, 0.5)
    assert radii.abstained.all()


def test_smoothing_counts_its_evaluations() -> None:
    images = random_images(5, classes=3)
    classifier = small_net().metered(5)
    run(Smoothing(n=70, n0=10), classifier, images)
    assert (classifier.meter.forwards == 80).all()
    assert (classifier.meter.backwards == 0).all()
