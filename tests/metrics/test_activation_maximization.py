"""Activation maximisation, against affine networks whose maxima over the box are known exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metric_cases import F64, SHAPE, images_of, observe, random_pixels, small_net
from robusteval.core.streams import Streams
from robusteval.metrics.activation_maximization import PARTS, ActivationMaximization
from robusteval.models.making import make_classifier
from seeing import blank, oracle, statistics


def test_the_defaults_are_the_papers() -> None:
    metric = ActivationMaximization()
    assert (metric.steps, metric.learning_rate) == (10_000, 0.001)


def test_an_affine_logit_reaches_its_maximum_over_the_box() -> None:
    """One where the weight is above zero, else nought."""
    classifier, weight, bias = oracle(3)
    seen = observe(ActivationMaximization(steps=50, learning_rate=1e4), classifier, blank(classifier))
    corners = (weight > 0).to(F64)
    logits = corners @ weight.T + bias
    for k, corner in enumerate(corners):
        assert torch.equal(seen.arrays[f"class-{k}"].flatten(), corner)
        assert statistics(seen, "logit")[k] == pytest.approx(float(logits[k, k]), rel=1e-12)
        assert statistics(seen, "probability")[k] == pytest.approx(float(logits[k].softmax(0)[k]), rel=1e-9)


@pytest.mark.parametrize("steps", [3, 40])
def test_the_steps_are_plain_gradient_steps_cut_at_the_box(steps: int) -> None:
    """Up an affine logit a pixel only ever moves one way, so that cutting at the end is cutting at every step."""
    classifier, weight, bias = oracle(4)
    rate = 0.02
    seen = observe(ActivationMaximization(steps=steps, learning_rate=rate), classifier, blank(classifier))
    starts = torch.stack([seen.arrays[f"start-{k}"].flatten() for k in range(5)])
    assert seen.arrays.keys() == {f"{kind}-{k}" for k in range(5) for kind in ("start", "class")}

    def at(t: float) -> Tensor:
        return ((starts + t * rate * weight).clamp(0, 1) * weight).sum(1) + bias

    ends = torch.stack([seen.arrays[f"class-{k}"].flatten() for k in range(5)])
    assert torch.allclose(ends, (starts + steps * rate * weight).clamp(0, 1), rtol=0, atol=1e-12)
    assert 0 < float(((ends > 0) & (ends < 1)).double().mean()) < 1
    for quantity, expected in (("logit_start", at(0)), ("logit", at(steps))):
        assert list(statistics(seen, quantity).values()) == pytest.approx(expected.tolist(), rel=1e-12)
    path = statistics(seen, "mean_logit")
    assert list(path) == sorted({steps * i // PARTS for i in range(PARTS + 1)})
    assert list(path.values()) == pytest.approx([float(at(t).mean()) for t in path], rel=1e-12)
    assert all(a <= b for a, b in zip(statistics(seen, "logit_start").values(), at(steps).tolist(), strict=True))
    assert np.all(np.diff(list(path.values())) > 0)


def test_the_noise_is_gaussian_around_grey_and_a_class_has_its_own_whatever_the_others() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 5))
    classifier = make_classifier("wide", network, (3, 40, 40)).to("cpu", F64)
    images = images_of(torch.zeros(2, 3, 40, 40, dtype=F64))
    base = observe(ActivationMaximization(steps=1, noise=0.1), classifier, images)
    starts = torch.stack([base.arrays[f"start-{k}"].flatten() for k in range(5)])
    n = starts.numel()
    assert abs(float(starts.mean()) - 0.5) < 5 * 0.1 / math.sqrt(n)
    assert abs(float(starts.std()) - 0.1) < 5 * 0.1 / math.sqrt(2 * n)
    assert float(torch.corrcoef(starts).fill_diagonal_(0).abs().max()) < 5 / math.sqrt(starts.shape[1])
    for size, classes in ((1, 5), (2, 20), (100, 3)):
        other = observe(
            ActivationMaximization(steps=1, noise=0.1, classes=classes), replace(classifier, batch_size=size), images
        )
        assert len(other.arrays) == 2 * min(classes, 5)
        for k in range(min(classes, 5)):
            assert torch.equal(other.arrays[f"start-{k}"], base.arrays[f"start-{k}"])
    grey = observe(ActivationMaximization(steps=1, noise=0), classifier, images)
    assert all((grey.arrays[f"start-{k}"] == 0.5).all() for k in range(5))
    wild = observe(ActivationMaximization(steps=1, noise=3), classifier, images).arrays["start-0"]
    assert wild.min() == 0
    assert wild.max() == 1


def test_a_small_step_never_lowers_a_smooth_logit() -> None:
    seen = observe(ActivationMaximization(steps=200, learning_rate=0.01), small_net(), images_of(random_pixels(1)))
    path = list(statistics(seen, "mean_logit").values())
    assert np.all(np.diff(path) >= 0)
    assert all(0 <= float(p.min()) <= float(p.max()) <= 1 for p in seen.arrays.values())


class Hostile(nn.Module):
    """Class 0 rises with every pixel, class 1 is constant, class 2 rises very fast; or no gradient is a number."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.broken = broken

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.flatten(1).mean(1)
        logits = torch.stack([mean, 0 * mean + 0.3, 1e300 * mean], dim=1)
        return logits + torch.sqrt(0 * mean)[:, None] if self.broken else logits


@pytest.mark.parametrize("broken", [False, True])
def test_what_has_no_gradient_stays_and_leaves(broken: bool) -> None:
    classifier = replace(make_classifier("hostile", Hostile(broken).double(), SHAPE), dtype=F64).metered(1)
    done: list[tuple[int, int]] = []
    metric = ActivationMaximization(steps=1000, learning_rate=2.0)
    images = images_of(random_pixels(1))
    seen = metric.observe(classifier, images, None, Streams.for_set(1, "x", images.pixels), lambda *at: done.append(at))
    for k, moves in enumerate((not broken, False, not broken)):
        end = seen.arrays[f"class-{k}"]
        assert torch.equal(end, torch.ones_like(end) if moves else seen.arrays[f"start-{k}"])
    # A pixel that rises by 2 / 32 a step is full after 16; then each part of the path asks once more.
    assert float(classifier.meter.backwards.sum()) <= 20 + 3 * (PARTS + 1)
    assert done == [(100 * i, 1000) for i in range(1, 11)]
