"""Exchanges of single changed entries: fewer of them, and what was no witness stays as it is."""

from __future__ import annotations

import torch
from torch import nn

from robusteval.attacks.search.exchange import exchange
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier


def test_exchange_finds_the_entry_that_is_worth_all_of_a_witness() -> None:
    """One entry weighs 5, all others 1, and 2.5 are needed: a witness of three others becomes that one alone."""
    linear = nn.Linear(64, 2)
    heavy = torch.ones(64)
    heavy[40] = 5
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(64), heavy]))
        linear.bias.copy_(torch.tensor([0.0, -2.5]))
    pixels = torch.zeros(2, 1, 8, 8)
    witnesses = pixels.clone().flatten(1)
    witnesses[0, 10:13] = 1
    model = make_classifier("heavy", nn.Sequential(nn.Flatten(), linear), (1, 8, 8))
    view = model.metered(2)
    found = exchange(view, Images(("a", "b"), pixels, torch.zeros(2).long()), witnesses.view_as(pixels), 8)
    assert found[0].flatten().nonzero().tolist() == [[40]]
    assert Norm.L0.size(found - pixels).tolist() == [1, 0]
    assert view.meter.forwards.tolist() == view.meter.backwards.tolist() == [8, 8]
