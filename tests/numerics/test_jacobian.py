"""Jacobians, whole and as products, against autograd and explicit matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metric_cases import F64, random_pixels, small_net
from robusteval.core import memory
from robusteval.numerics.jacobian import Linearised, jacobian, jacobians, outputs
from spectra import D


@pytest.mark.parametrize("of", ["features", "logits"])
def test_the_jacobian_is_that_of_autograd(of: Any) -> None:
    classifier, pixels = small_net(), random_pixels(5)
    f = outputs(classifier, of)
    found = torch.cat(list(jacobians(f, pixels, 2)))
    for x, j in zip(pixels, found, strict=True):
        expected = torch.autograd.functional.jacobian(lambda v: f(v[None])[0], x).flatten(1)
        assert torch.allclose(j, expected, rtol=1e-12, atol=1e-14)


def test_jacobians_hold_no_more_than_they_may() -> None:
    pixels = random_pixels(7)
    f = outputs(small_net(8), "features")
    whole = jacobian(f, pixels)
    for entries, sizes in ((3 * 8 * D, [3, 3, 1]), (1, [1] * 7), (10**9, [5, 2])):
        with memory.at_most(entries):
            parts = list(jacobians(f, pixels, 5))
        assert [len(p) for p in parts] == sizes
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-12)
    assert list(jacobians(f, pixels[:0], 5)) == []


def test_products_are_those_with_the_matrix() -> None:
    classifier, pixels = small_net(8), random_pixels(4)
    f = outputs(classifier, "features")
    j = jacobian(f, pixels)
    v, u = torch.randn(4, 3, D, dtype=F64), torch.randn(4, 2, 8, dtype=F64)
    line = Linearised(f, pixels)
    for _ in range(2):
        assert torch.allclose(line.push(v), v @ j.mT, rtol=1e-9, atol=1e-12)
        assert torch.allclose(line.pull(u), u @ j, rtol=1e-9, atol=1e-12)


def test_every_pass_is_booked() -> None:
    pixels = random_pixels(4)
    classifier = small_net(8).metered(4)
    f = outputs(classifier, "features")
    jacobian(f, pixels)
    assert classifier.meter.forwards.tolist() == [1.0 + 1 / 4] * 4  # one forward of one image finds the layer
    assert classifier.meter.backwards.tolist() == [8.0] * 4
    line = Linearised(f, pixels)
    line.push(torch.randn(4, 3, D, dtype=F64))
    line.pull(torch.randn(4, 5, 8, dtype=F64))
    assert classifier.meter.forwards.tolist() == [1.0 + 1 / 4 + 1 + 3] * 4
    assert classifier.meter.backwards.tolist() == [8.0 + 1 + 5] * 4
