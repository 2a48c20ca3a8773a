"""The most deceptive witnesses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from metric_cases import F64, SHAPE, curve, images_of, linear_net, measure, random_pixels, small_net
from robusteval import UserError
from robusteval.auditing.protocol import parse_protocol
from robusteval.metrics.deception import Deception


def test_the_confidence_of_two_classes_is_the_logistic_function_of_the_margin() -> None:
    classifier = linear_net(torch.ones(32), -16.0).metered(4)
    levels = torch.tensor([0.5, 0.51, 0.7, math.nan], dtype=F64)
    witnesses = levels[:, None, None, None].expand(4, *SHAPE).contiguous()
    witnesses[2, 0, 0, 0] = math.nan
    found = measure(Deception(witnesses="x"), classifier, images_of(torch.zeros(4, *SHAPE, dtype=F64)), witnesses)
    confidence, wrong = curve(found, "deceptive_confidence")[0], curve(found, "deceptive_class")[0]
    assert confidence[:2].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-0.32))], rel=1e-6)
    assert wrong[:2].tolist() == [1, 1]
    assert confidence[2:].isnan().all()
    assert wrong[2:].isnan().all()
    assert classifier.meter.forwards.tolist() == [1, 1, 0, 0]
    none = measure(
        Deception(witnesses="x"), classifier, images_of(torch.zeros(4, *SHAPE, dtype=F64)), 0 * witnesses / 0
    )
    assert all(m.values.isnan().all() for m in none)


def test_the_label_is_never_the_deceptive_class() -> None:
    classifier, pixels = small_net(), random_pixels(12)
    labels = torch.arange(12) % 3
    found = measure(Deception(witnesses="x"), classifier, replace(images_of(pixels), labels=labels), pixels)
    softmax = classifier.predict(pixels).softmax(1)
    for i, label in enumerate(labels.tolist()):
        wrong = max((k for k in range(3) if k != label), key=lambda k: float(softmax[i, k]))
        assert curve(found, "deceptive_class")[0, i] == wrong
        assert float(curve(found, "deceptive_confidence")[0, i]) == pytest.approx(float(softmax[i, wrong]), rel=1e-12)


def test_deception_needs_the_witnesses_of_an_attack_of_the_protocol() -> None:
    with pytest.raises(ValidationError):
        Deception()  # type: ignore[call-arg]
    attacks = [{"method": "fgsm", "norm": "linf"}]
    for settings, message in (({}, "'witnesses'"), ({"witnesses": "fgsm"}, "did you mean 'fgsm-linf'")):
        data = {"budgets": {"linf": [0.1]}, "attacks": attacks, "metrics": [{"method": "deception"} | settings]}
        with pytest.raises(UserError, match=message):
            parse_protocol(data, "x.toml")
