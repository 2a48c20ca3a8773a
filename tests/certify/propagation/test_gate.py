"""No gate of intervals stands before CROWN: where rounding is too much for intervals it may still prove."""

from __future__ import annotations

import pytest
import torch

from propagating import F64, deep, proven
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.trace import trace
from robusteval.core.norms import BALLS, Norm

DEEP = [
    (8, 8, 0),
    (10, 6, 1),
    (7, 8, 2),
    (8, 6, 3),
    (8, 8, 4),
    (9, 6, 5),
    (9, 4, 6),
    (10, 4, 7),
    (11, 4, 8),
    (12, 4, 9),
]


@pytest.mark.parametrize(("layers", "channels", "seed"), DEEP)
def test_crown_starts_from_its_own_margin(layers: int, channels: int, seed: int) -> None:
    classifier, images = deep(layers, channels, seed)
    graph, x, norm = trace(classifier), images.pixels.double(), BALLS[seed % 3]
    small = InputBall(norm, x, torch.full((1,), 1e-4, dtype=F64))
    margin = CROWN(norm=norm).margins(graph, small, images.labels).amin(1)
    assert margin > 0
    assert IBP(norm=norm).at_zero(graph, x, images.labels) <= 0, "rounding is not too much for intervals"
    assert proven("crown", norm, classifier, images, tolerance=0.9) >= 1e-4


def test_what_rounding_left_of_the_margin_is_measured() -> None:
    classifier, images = deep(9, 6, 5)
    logits = classifier.predict(images.pixels).sort(1).values
    true = float(logits[0, -1] - logits[0, -2])
    crown = CROWN(norm=Norm.LINF, tolerance=0.9)(classifier, images.pixels, images.labels)
    ibp = IBP(norm=Norm.LINF)(classifier, images.pixels, images.labels)
    assert 0.5 * true < crown.measurements["proven_margin", 0.0] <= true * (1 + 1e-5)
    assert ibp.measurements["proven_margin", 0.0] <= 0
    assert ibp.radius == 0
    wrong = IBP(norm=Norm.LINF)(classifier, images.pixels, (images.labels + 1) % 4)
    assert wrong.measurements["proven_margin", 0.0].isnan()
    double, same = deep(9, 6, 5, F64)
    assert IBP(norm=Norm.LINF)(double, same.pixels, same.labels).measurements["proven_margin", 0.0] > 0.9 * true
