"""Metrics against exact probabilities and explicit matrices."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from metric_cases import F64, SHAPE, SMALL, curve, images_of, measure, observe, random_pixels, small_net
from robusteval.classifier import make_classifier
from robusteval.errors import UnsupportedError
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric
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
        seen = observe(metric, small_net(metric=name, dtype=dtype), images, witnesses)
        assert seen.statistics
        assert all(math.isfinite(s.value) for s in seen.statistics)
        assert len({(s.quantity, s.at) for s in seen.statistics}) == len(seen.statistics)
        found = list(seen.measurements)
    else:
        assert isinstance(metric, ImageMetric)
        found = measure(metric, small_net(metric=name, dtype=dtype), images, witnesses)
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
    base, *others = (observe(metric, small_net(metric=name, batch_size=size), images, witnesses) for size in (64, 1, 7))
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
        rows = measure(metric, small_net(metric=name, batch_size=size), images.select(order), witnesses[order])
        other = {(m.quantity, m.at): m.values for m in rows}
        assert other.keys() <= {(m.quantity, m.at) for m in base}
        for ours in base:
            # What none of these images has a value of may be left out.
            theirs = other.get((ours.quantity, ours.at), torch.full_like(ours.values[order], torch.nan))
            assert torch.allclose(ours.values[order], theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("noise", {"samples": 0}),
        ("noise", {"sigmas": [-0.1]}),
        ("noise", {"sigmas": []}),
        ("noise", {"sigma": 1}),
        ("noise", {"distribution": "laplace"}),
        ("jacobian-spectrum", {"ranks": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        METRICS[name].model_validate(setting)


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
