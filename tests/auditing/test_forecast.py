"""Plans: what methods declare to take, against what the meter counts; and what a plan makes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import metric_cases
from attacking import COMPILED, fast, find, streams
from certificate_cases import run as run_certificate
from certificate_cases import small
from oracles import affine, interior, random_images
from robusteval.attacks import ATTACKS
from robusteval.auditing.forecast import forecast, pass_seconds
from robusteval.auditing.protocol import read_protocol
from robusteval.certify import CERTIFICATES
from robusteval.core.methods import Method
from robusteval.core.passes import Passes
from robusteval.metrics import METRICS
from robusteval.metrics.base import ImageMetric, SetMetric
from robusteval.models.meter import Meter

UNTOLD = {"beta-crown", "crown", "ibp", "lipschitz", "jacobian-spectrum", "alignment", "linearity"}
"""Whose work is not of passes, or of as many as the network has features."""


def check(method: Method, images: int, classes: int, counted: Meter) -> None:
    declared = method.passes(images, classes)
    if method.name in UNTOLD:
        assert declared is None
        return
    assert declared is not None, f"expected {method.name} to declare its passes (Method.passes)"
    for kind, planned, spent in (
        ("forward", declared.forward, float(counted.forwards.sum())),
        ("backward", declared.backward, float(counted.backwards.sum())),
    ):
        text = f"{method.label}: {planned:.0f} {kind} planned, {spent:.0f} counted"
        assert spent <= 2 * planned + 10 * images, text
        assert planned <= 4 * spent + 10 * images, text


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in COMPILED])
def test_attacks_take_what_they_declare(name: str) -> None:
    attack = fast(name, ATTACKS[name].norms[-1])
    classifier, _, _ = affine(0)
    images = random_images(0, 8, classifier)
    view = classifier.metered(len(images))
    budget = torch.full((len(images),), 1e-5, dtype=images.pixels.dtype) if attack.fixed_budget else None
    find(attack, view, images, budget, streams(images))
    check(attack, len(images), classifier.num_classes, view.meter)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_take_what_they_declare(name: str) -> None:
    certificate = small(name, CERTIFICATES[name].norms[-1])
    classifier, images, _ = interior(certificate.norm)
    view = classifier.metered(len(images))
    run_certificate(certificate, view, images)
    check(certificate, len(images), classifier.num_classes, view.meter)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_take_what_they_declare(name: str) -> None:
    metric = metric_cases.case_of(name)
    net = metric_cases.small_net(metric=name)
    images = metric_cases.images_of(metric_cases.random_pixels(12))
    images = replace(images, labels=net.predict(images.pixels).argmax(1))
    view = net.metered(len(images))
    if isinstance(metric, SetMetric):
        metric_cases.observe(metric, view, images, 1 - images.pixels)
    else:
        assert isinstance(metric, ImageMetric)
        metric_cases.measure(metric, view, images, 1 - images.pixels)
    check(metric, len(images), net.num_classes, view.meter)


def test_passes_add_up() -> None:
    assert (Passes(1, 2) + Passes.both(3)) * 2 == Passes(8, 10)


PROTOCOL = """
name = "planned"
[budgets]
linf = [0.01, 0.02]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 10
[[attacks]]
method = "transfer"
norm = "linf"
[[certificates]]
method = "ibp"
norm = "linf"
"""


def test_a_plan_says_what_each_stage_takes(tmp_path: Path) -> None:
    file = tmp_path / "planned.toml"
    file.write_text(PROTOCOL)
    classifier, _, _ = affine(0)
    images = random_images(0, 6, classifier)
    found = forecast(classifier, images, read_protocol(str(file)), device="cpu", dtype="float64", batch_size=3)
    stages = {stage.name: stage for stage in found.stages}
    assert list(stages) == ["sanity", "clean", "pgd-linf", "transfer-linf", "ibp-linf", "repeat"]
    assert stages["pgd-linf"].passes == Passes(2 * 6 * 11, 2 * 6 * 10)
    assert stages["transfer-linf"].passes == Passes()
    assert found.unknown == ("ibp-linf",)
    assert found.forward_seconds > 0
    expected = 132 * found.forward_seconds + 120 * found.backward_seconds
    assert stages["pgd-linf"].seconds == pytest.approx(expected)
    assert found.seconds == pytest.approx(sum(stage.seconds or 0 for stage in found.stages))


def test_a_plan_of_a_model_that_raises_knows_no_time() -> None:
    classifier, _, _ = affine(0)
    broken = replace(classifier, module=Raising())
    forward, backward = pass_seconds(broken, torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    assert math.isnan(forward)
    assert math.isnan(backward)


class Raising(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        raise ValueError("expected nothing")
