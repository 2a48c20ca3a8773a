"""Metrics against exact probabilities and explicit matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import beta, binom, norm
from torch import Tensor, nn

from metric_cases import F64, SHAPE, SMALL, curve, images_of, linear_net, measure, observe, random_pixels, small_net
from robusteval.classifier import make_classifier
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric
from robusteval.metrics.noise import GaussianNoise
from robusteval.reports.chapters import CHAPTERS

# Every metric


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_runs(name: str, dtype: torch.dtype) -> None:
    metric = SMALL[name]
    assert "\n" not in metric.summary
    assert len(type(metric).__doc__ or "") > 200
    images = images_of(random_pixels(6).to(dtype))
    witnesses = None if metric.witnesses_of is None else 0.9 * images.pixels + 0.1 * random_pixels(6).flip(0).to(dtype)
    if isinstance(metric, SetMetric):
        seen = observe(metric, small_net(dtype=dtype), images, witnesses)
        assert seen.statistics
        assert all(math.isfinite(s.value) for s in seen.statistics)
        assert len({(s.quantity, s.at) for s in seen.statistics}) == len(seen.statistics)
        found = list(seen.measurements)
    else:
        assert isinstance(metric, ImageMetric)
        found = measure(metric, small_net(dtype=dtype), images, witnesses)
        assert found
    for m in found:
        assert m.values.shape == (6,)
        assert m.values.isfinite().all() or isinstance(metric, SetMetric)
    assert len({(m.quantity, m.at) for m in found}) == len(found)


def test_every_metric_has_a_chapter_in_the_report() -> None:
    """Signs of masking are flags on top of the report; the smoothed prediction stands in the table of images."""
    shown = {chapter.method for chapter in CHAPTERS}
    assert shown == METRICS.keys() - {"gradient-masking", "smoothed-prediction"}


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if issubclass(metric, SetMetric)])
def test_what_a_set_shows_does_not_depend_on_the_batch_size(name: str) -> None:
    metric, images = SMALL[name], images_of(random_pixels(20))
    assert isinstance(metric, SetMetric)
    witnesses = (images.pixels + 0.1 * random_pixels(20).flip(0)).clamp(0, 1)
    witnesses[3] = torch.nan
    base, *others = (observe(metric, small_net(batch_size=size), images, witnesses) for size in (64, 1, 7))
    for other in others:
        for ours, theirs in zip(base.statistics, other.statistics, strict=True):
            assert (ours.quantity, ours.at) == (theirs.quantity, theirs.at)
            assert ours.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-9)
        for mine, its in zip(base.measurements, other.measurements, strict=True):
            assert torch.allclose(mine.values, its.values, rtol=1e-9, atol=1e-9, equal_nan=True)
        assert base.pictures.keys() == other.pictures.keys()
        for key, picture in base.pictures.items():
            assert torch.allclose(picture, other.pictures[key], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if issubclass(metric, ImageMetric)])
def test_results_do_not_depend_on_batch_size_order_or_company(name: str) -> None:
    metric, images = SMALL[name], images_of(random_pixels(20))
    assert isinstance(metric, ImageMetric)
    witnesses = images.pixels + 0.1 * random_pixels(20).flip(0)
    witnesses[3] = torch.nan
    base = measure(metric, small_net(), images, witnesses)
    orders = [torch.arange(20), torch.arange(20), torch.randperm(20), torch.tensor([11])]
    for size, order in zip((1, 7, 64, 64), orders, strict=True):
        rows = measure(metric, small_net(batch_size=size), images.select(order), witnesses[order])
        other = {(m.quantity, m.at): m.values for m in rows}
        assert other.keys() <= {(m.quantity, m.at) for m in base}
        for ours in base:
            # What none of these images has a value of may be left out.
            theirs = other.get((ours.quantity, ours.at), torch.full_like(ours.values[order], torch.nan))
            assert torch.allclose(ours.values[order], theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("gaussian-noise", {"samples": 0}),
        ("gaussian-noise", {"sigmas": [-0.1]}),
        ("gaussian-noise", {"sigmas": []}),
        ("gaussian-noise", {"sigma": 1}),
        ("jacobian-spectrum", {"ranks": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        METRICS[name].model_validate(setting)


# Gaussian noise


def test_noise_defaults_are_the_papers() -> None:
    assert np.allclose(GaussianNoise().sigmas, np.linspace(0, 0.5, 30))


@pytest.mark.parametrize("samples", [1, 3])
def test_noise_meets_the_exact_probabilities_of_a_linear_network(samples: int) -> None:
    """With d the distance to the plane, a Gaussian keeps the side with probability Phi(d / sigma); noise of size
    sigma sqrt(n) if its cosine to the normal, (1 + cos) / 2 ~ Beta((n - 1) / 2, (n - 1) / 2), is above
    -d / (sigma sqrt(n)). Each mean of n draws lies in its two-sided 1 - 2e-6 interval."""
    w = torch.linspace(-1, 2, 32)
    d, copies, n = 0.3, 600, 32
    pixels = torch.full((copies, *SHAPE), 0.5, dtype=F64)
    b = float(d * w.double().norm() - 0.5 * w.double().sum())
    sigmas = (0.0, 0.1, 0.3, 0.5)
    found = measure(GaussianNoise(sigmas=sigmas, samples=samples), linear_net(w, b), images_of(pixels))
    kept, single = curve(found, "kept"), curve(found, "kept_single")
    assert kept.shape == single.shape == (4, copies)
    assert (kept[0] == 1).all()
    assert (single[0] == 1).all()
    for i, sigma in enumerate(sigmas[1:], start=1):
        gaussian = norm.cdf(d / sigma) ** samples
        cosine = max(-1.0, -d / (sigma * math.sqrt(n)))
        sphere = beta.sf((1 + cosine) / 2, (n - 1) / 2, (n - 1) / 2)
        for mean, p in ((kept[i], gaussian), (single[i], sphere)):
            assert binom.ppf(1e-6, copies, p) <= float(mean.sum()) <= binom.isf(1e-6, copies, p)
    assert torch.allclose(curve(found, "noise_area")[0], kept.mean(0))
    assert torch.allclose(curve(found, "noise_area_single")[0], single.mean(0))


class Ball(nn.Module):
    """Class 0 within a distance of 1 of the grey picture."""

    def forward(self, pixels: Tensor) -> Tensor:
        distance = (pixels - 0.5).flatten(1).norm(dim=1)
        return torch.stack([torch.ones_like(distance), distance], dim=1)


def test_single_noise_has_exactly_the_mean_size() -> None:
    pixels = torch.full((20, *SHAPE), 0.5, dtype=F64)
    edge = 1 / math.sqrt(32)
    found = measure(
        GaussianNoise(sigmas=(0.999 * edge, 1.001 * edge), samples=1),
        make_classifier("ball", Ball(), SHAPE).to("cpu", F64),
        images_of(pixels),
    )
    single = curve(found, "kept_single")
    assert (single[0] == 1).all()
    assert (single[1] == 0).all()


def test_noise_stops_at_the_first_change() -> None:
    """On the plane half of the noise changes the class: the cost is geometric, 2 (1 - 2^-m), not m."""
    w, copies, m = torch.ones(32), 400, 8
    pixels = torch.full((copies, *SHAPE), 0.5, dtype=F64)
    classifier = linear_net(w, -0.5 * 32 + 1e-9).metered(copies)
    measure(GaussianNoise(sigmas=(0.3,), samples=m), classifier, images_of(pixels))
    drawn = classifier.meter.forwards - 2
    assert (drawn >= 1).all()
    assert (drawn <= m).all()
    mean, deviation = 2 * (1 - 0.5**m), math.sqrt(2 / copies)
    assert abs(float(drawn.mean()) - mean) < 5 * deviation
