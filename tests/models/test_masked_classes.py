"""Behaviour of networks whose logits share an offset or hold a huge negative one, which masks a class: neither hides
that outputs are random, depend on the batch or drift, and neither makes outputs look constant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robusteval.auditing.stages.sanity import output_range
from robusteval.models.behaviour import observe
from robusteval.models.making import make_classifier

Change = Callable[[Tensor], Tensor]


class _Net(nn.Module):
    def __init__(self, before: Change, after: Change) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after, self.layer = before, after, nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layer(self.before(x.flatten(1))))


def masked(z: Tensor) -> Tensor:
    return torch.cat([z, torch.full_like(z[:, :2], -1e30)], dim=1)


def shifted(z: Tensor) -> Tensor:
    return z + 1e5


def same(x: Tensor) -> Tensor:
    return x


PIXELS = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("after", [same, masked, shifted])
def test_random_outputs_are_seen(after: Change) -> None:
    honest, noisy = (
        make_classifier("net", _Net(before, after), (1, 4, 4))
        for before in (same, lambda x: nn.functional.dropout(x, 0.5, True))
    )
    assert not observe(honest, PIXELS).traits.random
    assert observe(noisy, PIXELS).traits.random


@pytest.mark.parametrize("after", [same, masked])
def test_what_depends_on_the_batch_is_seen(after: Change) -> None:
    honest, mixed = (
        make_classifier("net", _Net(before, after), (1, 4, 4)) for before in (same, lambda x: x - x.mean(0))
    )
    assert not observe(honest, PIXELS).traits.batch_dependent
    assert observe(mixed, PIXELS).traits.batch_dependent


@pytest.mark.parametrize("after", [same, masked, shifted])
def test_outputs_that_follow_the_images_are_not_constant(after: Change) -> None:
    honest = make_classifier("net", _Net(same, after), (1, 4, 4))
    constant = make_classifier("net", _Net(lambda x: 0 * x, after), (1, 4, 4))
    assert output_range(honest.predict(PIXELS)) > 1e-6
    assert output_range(constant.predict(PIXELS)) == 0
