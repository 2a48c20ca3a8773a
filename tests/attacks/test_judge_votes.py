"""The judge of random outputs: the majority of its evaluations, the same each time, with silence no vote."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robusteval.attacks.judge import decide, judge
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.behaviour import VOTES, Traits
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

RANDOM = Traits(random=True, seedable=True, batch_dependent=False, single=True)


class Coin(nn.Module):
    """Class 1 with the probability of the mean pixel; with `silent`, no answer instead of class 0."""

    def __init__(self, silent: bool = False) -> None:
        super().__init__()
        self.silent = silent
        self.register_buffer("unit", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        one = (torch.rand(len(x)) < x.flatten(1).mean(1)).float()
        logits = torch.stack([1 - one, one], 1)
        return torch.where((one == 0)[:, None] & self.silent, torch.nan, logits)


def model(silent: bool = False) -> Classifier:
    return RANDOM.served(make_classifier("coin", Coin(silent), (1, 2, 2)))


@pytest.mark.parametrize(("share", "success"), [(0.02, False), (0.1, False), (0.9, True), (1.0, True)])
def test_what_fools_most_of_the_time_fools(share: float, success: bool) -> None:
    """At 0.1 a majority of 21 has a probability below 1e-6."""
    images = Images(tuple("abcd"), torch.full((4, 1, 2, 2), 0.0), torch.zeros(4, dtype=torch.int64))
    verdict = judge(model(), images, torch.full_like(images.pixels, share), Norm.LINF, None)
    assert verdict.success.tolist() == [success] * 4
    assert (verdict.fooled - share).abs().max() < 0.35
    again = judge(model(), images, torch.full_like(images.pixels, share), Norm.LINF, None)
    assert torch.equal(verdict.fooled, again.fooled)


def test_silence_is_no_vote_and_is_counted() -> None:
    pixels = torch.full((4, 1, 2, 2), 0.2)
    decision = decide(model(silent=True), pixels)
    assert (decision.predicted == 1).all(), "of those who answer"
    assert (decision.fooled(torch.zeros(4, dtype=torch.int64)) < 0.5).all(), "but not of most"
    assert torch.allclose(decision.unanswered + decision.fooled(torch.zeros(4, dtype=torch.int64)), torch.ones(4))
    assert VOTES % 2 == 1
