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
from robusteval.errors import UnsupportedError
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric
from robusteval.metrics.noise import GaussianNoise
from robusteval.metrics.spectrum import JacobianSpectrum, singular_values
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
        seen = observe(metric, small_net(dtype=dtype, metric=name), images, witnesses)
        assert seen.statistics
        assert all(math.isfinite(s.value) for s in seen.statistics)
        assert len({(s.quantity, s.at) for s in seen.statistics}) == len(seen.statistics)
        found = list(seen.measurements)
    else:
        assert isinstance(metric, ImageMetric)
        found = measure(metric, small_net(dtype=dtype, metric=name), images, witnesses)
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
    base, *others = (observe(metric, small_net(batch_size=size, metric=name), images, witnesses) for size in (64, 1, 7))
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
    base = measure(metric, small_net(metric=name), images, witnesses)
    orders = [torch.arange(20), torch.arange(20), torch.randperm(20), torch.tensor([11])]
    for size, order in zip((1, 7, 64, 64), orders, strict=True):
        rows = measure(metric, small_net(batch_size=size, metric=name), images.select(order), witnesses[order])
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


# Jacobian spectrum


def test_spectrum_of_a_linear_map_is_that_of_its_matrix() -> None:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 10))
    network = nn.Sequential(body, nn.Linear(10, 3))
    classifier = make_classifier("linear", network, SHAPE, mean=(0.1, 0.2), std=(0.5, 0.25)).to("cpu", F64)
    with torch.no_grad():
        basis = torch.eye(32, dtype=F64).view(32, *SHAPE)
        matrix = body(basis / torch.tensor([0.5, 0.25], dtype=F64).view(1, 2, 1, 1)) - body(
            torch.zeros(1, *SHAPE, dtype=F64)
        )
    expected = torch.linalg.svdvals(matrix)
    found = curve(measure(JacobianSpectrum(ranks=None), classifier, images_of(random_pixels(4))), "singular_value")
    assert found.shape == (10, 4)
    assert torch.allclose(found, expected[:, None].expand(10, 4), rtol=1e-9)


@pytest.mark.parametrize("width", [8, 40])
def test_spectrum_matches_the_jacobian_of_autograd(width: int) -> None:
    """Fewer features than pixels, and more."""
    classifier, pixels = small_net(width), random_pixels(5)
    found = singular_values(classifier, pixels)
    for x, values in zip(pixels, found, strict=True):
        j = torch.autograd.functional.jacobian(lambda v: classifier.features(v[None])[0], x).flatten(1)
        expected = torch.linalg.svdvals(j)
        assert values.shape == expected.shape
        assert (values - expected).abs().max() < 1e-7 * expected[0]


def test_spectrum_keeps_the_ranks_asked_for_and_counts_its_cost() -> None:
    classifier = small_net(8).metered(5)
    found = measure(JacobianSpectrum(ranks=3), classifier, images_of(random_pixels(5)))
    assert [(m.quantity, m.at) for m in found] == [("singular_value", r) for r in (1, 2, 3)]
    assert torch.allclose(classifier.meter.forwards, torch.ones(5, dtype=F64))
    assert torch.allclose(classifier.meter.backwards, torch.full((5,), 8.0, dtype=F64))


def test_spectrum_at_witnesses_is_nan_where_there_is_none() -> None:
    metric, images = JacobianSpectrum(ranks=None, witnesses="pgd-linf"), images_of(random_pixels(4))
    assert metric.witnesses_of == "pgd-linf"
    witnesses = random_pixels(4).flip(0)
    witnesses[2] = torch.nan
    found = curve(measure(metric, small_net(), images, witnesses), "singular_value_adversarial")
    assert found[:, 2].isnan().all()
    rest = torch.tensor([0, 1, 3])
    assert torch.allclose(found[:, rest].T, singular_values(small_net(), witnesses[rest]))
    none = measure(metric, small_net(), images, torch.full_like(witnesses, torch.nan))
    assert curve(none, "singular_value_adversarial").isnan().all()
    assert curve(none, "singular_value").isfinite().all()


def test_a_network_without_a_linear_layer_is_unsupported() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 4), nn.Flatten())
    classifier = make_classifier("conv", network, SHAPE).to("cpu", F64)
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.Linear"):
        measure(JacobianSpectrum(), classifier, images_of(random_pixels(2)))
