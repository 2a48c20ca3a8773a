"""Fewer changed entries: which changes are largest, and which are not needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robusteval.attacks.search.filling import among_largest, thin
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_changes_that_are_not_needed_are_put_back(dtype: torch.dtype) -> None:
    """The class changes with any 3 of 64 pixels at 1: of a witness of 20 the search keeps 3."""
    pixels = torch.zeros(2, 1, 8, 8, dtype=dtype)
    witnesses = pixels.clone().flatten(1)
    witnesses[0, 10:30] = 1
    linear = nn.Linear(64, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(64), torch.ones(64)]))
        linear.bias.copy_(torch.tensor([0.0, -2.5]))
    model = make_classifier("three", nn.Sequential(nn.Flatten(), linear), (1, 8, 8)).to("cpu", dtype)
    images = Images(("a", "b"), pixels, torch.zeros(2).long())
    view = model.metered(2)
    found = thin(view, images, witnesses.view_as(pixels), 6)
    assert Norm.L0.size(found - pixels).tolist() == [3, 0]
    assert view.meter.forwards.tolist() == [6, 6]


def test_largest_counts_ties_once() -> None:
    changes = torch.tensor([[1.0, -1.0, 1.0, 0.0], [0.1, -0.3, 0.2, 0.0]]).view(2, 1, 2, 2)
    assert among_largest(changes, torch.tensor([2, 1])).flatten(1).tolist() == [
        [True, True, False, False],
        [False, True, False, False],
    ]
