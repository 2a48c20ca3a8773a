"""Metrics against exact probabilities and explicit matrices."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from metric_cases import F64, SMALL, case_of, images_of, measure, observe, random_pixels, small_net
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, Metric, SetMetric
from robusteval.reports.chapters import CHAPTERS

# Every metric


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_runs(name: str, dtype: torch.dtype) -> None:
    metric = case_of(name)
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


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_measures_nothing_fails(name: str) -> None:
    """Of another network, other images and other witnesses it says something else."""
    seen = [numbers(case_of(name), name, *it) for it in ((1.0, random_pixels(6)), (3.0, random_pixels(12)[6:] ** 2))]
    assert seen[0].keys() & seen[1].keys()
    assert any(seen[0][key] != pytest.approx(seen[1][key], nan_ok=True) for key in seen[0].keys() & seen[1].keys())


def numbers(metric: Metric, name: str, scale: float, pixels: Tensor) -> dict[tuple[str, float], list[float]]:
    """All that a metric emits of a network whose weights are `scale` times those of the small one."""
    network, images = small_net(metric=name), images_of(pixels)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.mul_(scale)
    witnesses = None if metric.witnesses_of is None else 0.9 * pixels + 0.1 * pixels.flip(0)
    if isinstance(metric, SetMetric):
        seen = observe(metric, network, images, witnesses)
        kept = {(m.quantity, m.at): m.values.tolist() for m in seen.measurements}
        return kept | {(s.quantity, s.at): [s.value] for s in seen.statistics}
    assert isinstance(metric, ImageMetric)
    return {(m.quantity, m.at): m.values.tolist() for m in measure(metric, network, images, witnesses)}


def test_every_case_is_of_a_metric() -> None:
    assert SMALL.keys() <= METRICS.keys()


def test_a_metric_without_a_case_is_told_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"entry for 'mine' in SMALL of tests/metric_cases\.py"):
        case_of("mine")


def test_every_metric_has_a_chapter_in_the_report() -> None:
    assert {chapter.method for chapter in CHAPTERS} == set(METRICS.builtin)


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if issubclass(metric, SetMetric)])
def test_what_a_set_shows_does_not_depend_on_the_batch_size(name: str) -> None:
    metric, images = case_of(name), images_of(random_pixels(20))
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
        assert base.arrays.keys() == other.arrays.keys()
        for key, array in base.arrays.items():
            assert torch.allclose(array, other.arrays[key], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if issubclass(metric, ImageMetric)])
def test_results_do_not_depend_on_batch_size_order_or_company(name: str) -> None:
    metric, images = case_of(name), images_of(random_pixels(20))
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
