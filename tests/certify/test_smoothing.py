"""Randomized smoothing against networks whose votes have known probabilities, and against simulated votes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom, chisquare, norm
from torch import Tensor, nn

from oracles import affine, random_images
from robusteval.certify.base import Certificate, Radii
from robusteval.certify.smoothing import sequential as smoothing_sequential
from robusteval.certify.smoothing.envelope import SmoothingEnvelope
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.certify.smoothing.sequential import SmoothingSequential
from robusteval.certify.smoothing.votes import votes
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.metrics.smoothed_prediction import SmoothedPrediction
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.numerics.binomial import anytime_radius, anytime_upper, certified_radius, fixed_lower
from robusteval.numerics.noise import BLOCK

RARE = 1e-6
"""A statistical test fails by chance with at most this probability; seeds are fixed."""
Counts = NDArray[np.int64]


def streams_of(images: Images, seed: int = 1) -> Streams:
    return Streams.for_images(seed, "smoothing", images.ids, images.pixels)


def certify(certificate: Certificate, classifier: Classifier, images: Images) -> Radii:
    return certificate.radii(classifier.metered(len(images)), images, (), streams_of(images))


def kept(radii: Radii) -> dict[tuple[str, float], NDArray[np.float64]]:
    return {(quantity, at): values.numpy() for quantity, at, values in radii.measurements}


def linear(n: int, scale: float = 1.0) -> tuple[Classifier, Images, NDArray[np.float64]]:
    """A linear network of two classes, images, and their exact distances to its plane outside of the box too."""
    classifier, weight, bias = affine(3, (1, 4, 4), 2)
    images = random_images(4, n, classifier)
    normal, offset = weight[1] - weight[0], bias[1] - bias[0]
    x = images.pixels.double().flatten(1).numpy()
    # Moved along the normal, so that small and large distances both occur.
    x = x + np.random.default_rng(0).uniform(-scale, scale, (n, 1)) * normal / np.linalg.norm(normal)
    z = x @ normal + offset
    pixels = torch.from_numpy(x).float().view(-1, 1, 4, 4)
    return (
        classifier,
        replace(images, pixels=pixels, labels=torch.from_numpy(z > 0).long()),
        np.abs(z) / np.linalg.norm(normal),
    )


class Window(nn.Module):
    """Class 0 where the first pixel is within 0.2 of its middle, class 1 elsewhere; notes the sizes of its batches."""

    batches: ClassVar[list[int]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        inside = 0.2 - (pixels.flatten(1)[:, 0] - 0.5).abs()
        return torch.stack([inside, -inside], dim=1)


def window(n: int, at: float = 0.5) -> tuple[Classifier, Images]:
    """n times the same image with all pixels `at`."""
    pixels = torch.full((n, 1, 1, 1), at)
    images = Images(tuple(f"{i:04d}" for i in range(n)), pixels, torch.zeros(n, dtype=torch.int64))
    return make_classifier("window", Window(), (1, 1, 1)), images


# Votes


def test_votes_have_the_distribution_of_the_noise() -> None:
    """Binomial with P(|sigma Z| < 0.2), image by image independent: a chi-square test of the counts."""
    classifier, images = window(6000)
    found = votes(classifier.metered(6000), images.pixels, streams_of(images), 0.25, 7)
    assert (found.sum(1) == 7).all()
    p = 2 * norm.cdf(0.2 / 0.25) - 1
    expected = 6000 * binom.pmf(np.arange(8), 7, p)
    assert chisquare(np.bincount(found[:, 0].numpy(), minlength=8), expected).pvalue > RARE


@pytest.mark.parametrize("draws", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_votes_are_the_same_in_any_batch_and_fit_in_one(size: int, draws: int) -> None:
    classifier, images, _ = linear(9)
    classifier = classifier.metered(9)
    expected = votes(classifier, images.pixels, streams_of(images), 0.4, draws)
    sized = replace(classifier, batch_size=size)
    assert torch.equal(votes(sized, images.pixels, streams_of(images), 0.4, draws), expected)
    back = images.select(torch.arange(9).flip(0))
    assert torch.equal(votes(sized, back.pixels, streams_of(back), 0.4, draws).flip(0), expected)


def test_no_more_than_a_batch_is_held_at_a_time() -> None:
    for n in (10, 500):
        classifier, images = window(n)
        Window.batches.clear()
        votes(replace(classifier.metered(n), batch_size=100), images.pixels, streams_of(images), 0.25, 100)
        assert max(Window.batches) <= 100
        assert sum(Window.batches) == 100 * n


# Fixed numbers of samples


def test_the_class_is_chosen_by_other_samples_than_those_that_are_counted() -> None:
    """At p = 1/2 counts of the chosen class would be at least half if the same samples had chosen it."""
    classifier, images = window(400, at=0.7)
    radii = certify(Smoothing(sigma=0.01, n0=101, n=101), classifier, images)
    below = int((kept(radii)["smoothing_count", 0.01] < 50.5).sum())
    assert binom.ppf(RARE, 400, 0.5) <= below <= binom.isf(RARE, 400, 0.5)
    assert int((~radii.abstained).sum()) <= binom.isf(RARE, 400, 0.001)
    assert torch.equal(radii.abstained, radii.radius == 0)


RUNS = 10_000


@pytest.mark.parametrize("p", [0.5 + 1e-9, 0.6, 0.8413, 0.99, 0.9999])
def test_simulated_fixed_certificates_are_wrong_as_rarely_as_alpha_says(p: float) -> None:
    counts = np.random.default_rng(1).binomial(1000, p, RUNS)
    wrong = int((certified_radius(counts, 1000, 0.05, 0.25) > 0.25 * norm.ppf(p)).sum())
    assert binom.sf(wrong - 1, RUNS, 0.05) > 0.001


# Sequential


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


# Envelope


def test_the_envelope_is_the_largest_radius_and_speaks_for_its_class() -> None:
    """In the window small noise names class 0 with a small radius, large noise class 1 with a large one."""
    classifier, images = window(6)
    certificate = SmoothingEnvelope(sigmas=(0.05, 0.15, 3.0), n0=30, n=2000, alpha=0.03)
    radii = certify(certificate, classifier, images)
    rows = kept(radii)
    each = []
    for sigma, name in zip(certificate.sigmas, (0, 0, 1), strict=True):
        count, samples = rows["smoothing_count", sigma], rows["smoothing_samples", sigma]
        each.append(rows["smoothing_radius", sigma])
        assert np.array_equal(certified_radius(count, samples, 0.01, sigma), each[-1])
        assert (rows["smoothing_class", sigma] == name).all()
        assert (each[-1] > 0).all()
    assert np.array_equal(np.max(each, axis=0), radii.radius.numpy())
    assert (rows["envelope_sigma", 0] == 3.0).all()
    assert (radii.predicted == 1).all()
    assert certificate.subject == "smooth(f, {0.05, 0.15, 3})"
    assert certificate.error_probability == 0.03
    near = certify(certificate.model_copy(update={"sigmas": (0.05, 0.15)}), classifier, images)
    assert (near.predicted == 0).all()


def test_the_envelope_of_one_sigma_is_smoothing() -> None:
    classifier, images, _ = linear(20)
    one = certify(SmoothingEnvelope(sigmas=(0.4,), n=300), classifier, images)
    fixed = certify(Smoothing(sigma=0.4, n=300), classifier, images)
    assert torch.equal(one.radius, fixed.radius)
    assert torch.equal(one.predicted, fixed.predicted)


# Prediction


def test_predictions_are_the_majority_or_abstain() -> None:
    """Clear, clear for the other class, and at p = 1/2."""
    metric = SmoothedPrediction(sigma=0.1, n=200)
    for at, expected in ((0.5, 0.0), (0.95, 1.0), (0.7, math.nan)):
        classifier, images = window(20, at)
        found = {m.quantity: m for m in metric.measure(classifier.metered(20), images, None, streams_of(images))}
        assert all(m.at == 0.1 for m in found.values())
        named, abstained = (found[f"smoothed_{q}"].values for q in ("class", "abstained"))
        assert torch.equal(named.isnan(), abstained == 1)
        assert (named.isnan() if math.isnan(expected) else named == expected).all()
        first, second = (found[f"smoothed_{q}"].values for q in ("count", "count_second"))
        assert (first >= second).all()
        assert (first + second == 200).all()


def test_a_class_that_is_not_the_likelier_is_predicted_as_rarely_as_alpha_says() -> None:
    """The window at the edge: class 0 with probability a little below 1/2."""
    classifier, images = window(2000, at=0.7)
    metric = SmoothedPrediction(sigma=0.1, n=50, alpha=0.2)
    found = {m.quantity: m.values for m in metric.measure(classifier.metered(2000), images, None, streams_of(images))}
    wrong = int((found["smoothed_class"] == 0).sum())
    assert 0 < wrong <= binom.isf(RARE, 2000, 0.2)
