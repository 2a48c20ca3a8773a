"""Predictions kept under noise, against exact probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta, binom, norm
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, linear_net, measure, random_pixels, small_net
from robusteval.analysis.results import Results
from robusteval.metrics.noise import Distribution, NoiseRobustness
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports.chapters import noise as chapter
from run_fixture import build_run


def within_chance(mean: Tensor, p: float, draws: int) -> bool:
    """Whether the mean of `draws` tosses lies in its two-sided 1 - 2e-6 interval."""
    heads = round(float(mean) * draws, 6)
    return bool(binom.ppf(1e-6, draws, p) <= heads <= binom.isf(1e-6, draws, p))


def test_noise_defaults_are_the_papers() -> None:
    metric = NoiseRobustness()
    assert np.allclose(metric.sigmas, np.linspace(0, 0.5, 30))
    assert metric.label == "gaussian-noise"
    assert NoiseRobustness(distribution="uniform").label == "uniform-noise"


@pytest.mark.parametrize("samples", [1, 3])
def test_gaussian_noise_meets_the_exact_probabilities_of_a_linear_network(samples: int) -> None:
    """With d the distance to the plane, a Gaussian keeps the side with probability Phi(d / sigma); noise of size
    sigma sqrt(n) if its cosine to the normal, (1 + cos) / 2 ~ Beta((n - 1) / 2, (n - 1) / 2), is above
    -d / (sigma sqrt(n))."""
    w = torch.linspace(-1, 2, 32)
    d, copies, n = 0.3, 600, 32
    pixels = torch.full((copies, *SHAPE), 0.5, dtype=F64)
    b = float(d * w.double().norm() - 0.5 * w.double().sum())
    sigmas = (0.0, 0.1, 0.3, 0.5)
    found = measure(NoiseRobustness(sigmas=sigmas, samples=samples), linear_net(w, b), images_of(pixels))
    kept, single = curve(found, "kept"), curve(found, "kept_single")
    assert kept.shape == single.shape == (4, copies)
    assert (kept[0] == 1).all()
    assert (single[0] == 1).all()
    for i, sigma in enumerate(sigmas[1:], start=1):
        cosine = max(-1.0, -d / (sigma * math.sqrt(n)))
        sphere = beta.sf((1 + cosine) / 2, (n - 1) / 2, (n - 1) / 2)
        assert within_chance(kept[i].mean(), norm.cdf(d / sigma) ** samples, copies)
        assert within_chance(single[i].mean(), sphere, copies)
    assert torch.allclose(curve(found, "noise_area")[0], kept.mean(0))
    assert torch.allclose(curve(found, "noise_area_single")[0], single.mean(0))


@pytest.mark.parametrize("pixels_seen", [1, 2])
@pytest.mark.parametrize("samples", [1, 3])
def test_uniform_noise_meets_the_exact_probabilities_of_a_linear_network(pixels_seen: int, samples: int) -> None:
    """A network that sees one pixel is pushed by a uniform number, one that sees the sum of two by a triangular one
    (Irwin and Hall). In units of half a pixel's range, a = sqrt(3) sigma, both are F((d + k a) / (2 a))."""
    w = torch.zeros(32)
    w[3 : 3 + pixels_seen] = 1.0
    d, copies = 0.2, 800
    pixels = torch.full((copies, *SHAPE), 0.5, dtype=F64)
    sigmas = (0.05, 0.15, 0.3, 0.6)
    metric = NoiseRobustness(distribution="uniform", sigmas=sigmas, samples=samples)
    found = measure(metric, linear_net(w, d - 0.5 * pixels_seen), images_of(pixels))
    for kept, sigma in zip(curve(found, "kept"), sigmas, strict=True):
        half = math.sqrt(3) * sigma
        x = min(max((d + pixels_seen * half) / (2 * half), 0.0), float(pixels_seen))
        exact = x if pixels_seen == 1 else (x**2 / 2 if x < 1 else 1 - (2 - x) ** 2 / 2)
        assert within_chance(kept.mean(), exact**samples, copies)


class Within(nn.Module):
    """Class 0 within a distance of 1 of the grey image."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, pixels: Tensor) -> Tensor:
        distance = torch.linalg.vector_norm((pixels - 0.5).flatten(1), ord=self.p, dim=1)
        return torch.stack([torch.ones_like(distance), distance], dim=1)


def within(p: float) -> Classifier:
    return make_classifier("ball", Within(p), SHAPE).to("cpu", F64)


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
def test_single_noise_has_exactly_the_mean_energy(distribution: Distribution) -> None:
    images = images_of(torch.full((20, *SHAPE), 0.5, dtype=F64))
    edge = 1 / math.sqrt(32)
    metric = NoiseRobustness(distribution=distribution, sigmas=(0.999 * edge, 1.001 * edge), samples=1)
    single = curve(measure(metric, within(2), images), "kept_single")
    assert (single[0] == 1).all()
    assert (single[1] == 0).all()


def test_uniform_noise_has_no_tails() -> None:
    """Of 32 Gaussian pixels one lies beyond 3 sigma with probability 1 - (1 - 0.0027)^32 = 0.083; a uniform one ends at
    sqrt(3) sigma, and scaled to the mean energy it needs an energy below a third of its mean to get there (4 sigma)."""
    images = images_of(torch.full((600, *SHAPE), 0.5, dtype=F64))
    kept = {}
    for distribution in ("gaussian", "uniform"):
        metric = NoiseRobustness(distribution=distribution, sigmas=(1 / 3,), samples=1)
        found = measure(metric, within(math.inf), images)
        kept[distribution] = [curve(found, q).mean() for q in ("kept", "kept_single")]
    assert all(mean == 1 for mean in kept["uniform"])
    beyond = (1 - 2 * norm.sf(3)) ** 32
    assert within_chance(kept["gaussian"][0], beyond, 600)
    assert kept["gaussian"][1] < 0.99


def test_noise_stops_at_the_first_change() -> None:
    """On the plane half of the noise changes the class: the cost is geometric, 2 (1 - 2^-m), not m."""
    w, copies, m = torch.ones(32), 400, 8
    pixels = torch.full((copies, *SHAPE), 0.5, dtype=F64)
    classifier = linear_net(w, -0.5 * 32 + 1e-9).metered(copies)
    measure(NoiseRobustness(sigmas=(0.3,), samples=m), classifier, images_of(pixels))
    drawn = classifier.meter.forwards - 2
    assert (drawn >= 1).all()
    assert (drawn <= m).all()
    mean, deviation = 2 * (1 - 0.5**m), math.sqrt(2 / copies)
    assert abs(float(drawn.mean()) - mean) < 5 * deviation


def test_without_an_early_stop_the_probability_itself_is_measured() -> None:
    w, copies, m, d = torch.linspace(-1, 2, 32), 200, 6, 0.3
    b = float(d * w.double().norm() - 0.5 * w.double().sum())
    classifier = linear_net(w, b).metered(copies)
    images = images_of(torch.full((copies, *SHAPE), 0.5, dtype=F64))
    found = measure(NoiseRobustness(sigmas=(0.0, 0.2, 0.6), samples=m, early_stop=False), classifier, images)
    share = curve(found, "kept_probability")
    assert (share[0] == 1).all()
    for i, sigma in ((1, 0.2), (2, 0.6)):
        assert within_chance(share[i].mean(), norm.cdf(d / sigma), copies * m)
    assert torch.equal(curve(found, "kept"), (share == 1).double())
    assert torch.allclose(curve(found, "noise_area_probability")[0], share.mean(0))
    assert (classifier.meter.forwards == 1 + 2 * (1 + m)).all()


def test_a_wrong_prediction_is_kept_like_any_other() -> None:
    """The reference is the clean prediction, whatever the label; float32 and one image do as well."""
    images = images_of(random_pixels(6).float())
    wrong = images_of(images.pixels)
    classifier = small_net(dtype=torch.float32)
    wrong.labels.copy_((classifier.predict(images.pixels).argmax(1) + 1) % 3)
    metric = NoiseRobustness(sigmas=(0.1, 0.4), samples=3)
    ours, theirs = (measure(metric, small_net(dtype=torch.float32), chosen) for chosen in (images, wrong))
    assert all(torch.equal(a.values, b.values) for a, b in zip(ours, theirs, strict=True))
    (alone,) = {m.values.shape for m in measure(metric, classifier, images.select(torch.tensor([2])))}
    assert alone == (1,)


def test_the_chapter_shows_areas_with_their_interval(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    (plot,) = chapter.plots(Results(run))
    assert "Gaussian noise" in plot.title
    assert "Moments, figure 6" in plot.title
    assert (plot.data["low"] <= plot.data["share"]).all()
    assert (plot.data["share"] <= plot.data["high"]).all()
    (grid,) = chapter.grids(Results(run))
    ((stage, _, area, interval, images),) = grid.rows
    assert (stage, area) == ("Gaussian noise", "50.0 %")
    low, high = (float(x) for x in interval.removesuffix(" %").split(" to "))
    assert 0 <= low < 50 < high <= 100
    assert images == f"{len(run.table('images'))}"
