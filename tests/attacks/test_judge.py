"""The judge believes no attack."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import BUDGET_TOLERANCE, Norm
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def brightness() -> Classifier:
    """Class 1 where the mean pixel is above one half."""
    linear = nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
        linear.bias.copy_(torch.tensor([2.0, 0.0]))
    return make_classifier("brightness", nn.Sequential(nn.Flatten(), linear), (1, 2, 2))


def one_image(value: float = 0.45) -> Images:
    return Images(("a",), torch.full((1, 1, 2, 2), value), torch.tensor([0]))


@pytest.mark.parametrize(
    ("candidate", "budget", "success"),
    [
        (0.55, 0.2, True),
        (0.55, None, True),
        (0.55, 0.05, False),  # over budget
        (0.48, 0.2, False),  # still classified correctly
        (1.2, None, False),  # outside the box
        (-0.1, None, False),
        (math.nan, None, False),
        (math.inf, None, False),
    ],
)
def test_verdicts(candidate: float, budget: float | None, success: bool) -> None:
    images = one_image()
    verdict = judge(brightness(), images, torch.full_like(images.pixels, candidate), Norm.LINF, budget)
    assert verdict.success.item() is success
    if success:
        assert verdict.predicted.item() == 1
        assert verdict.l0.item() == 4
        assert verdict.linf.item() == pytest.approx(0.1, rel=1e-6)
        assert verdict.l2.item() == pytest.approx(0.2, rel=1e-6)
        assert verdict.l1.item() == pytest.approx(0.4, rel=1e-6)
    else:
        assert verdict.predicted.item() == 0
        assert all(getattr(verdict, d).item() == math.inf for d in ("l0", "l1", "l2", "linf"))


def test_the_budget_has_a_stated_tolerance() -> None:
    images = Images(("a",), torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64), torch.tensor([0]))
    classifier = brightness().to("cpu", torch.float64)
    for factor, success in ((0.5, True), (2.0, False)):
        candidate = images.pixels + 0.5 * (1 + factor * BUDGET_TOLERANCE)
        assert judge(classifier, images, candidate, Norm.LINF, 0.5).success.item() is success


def test_non_finite_logits_are_no_success() -> None:
    class Nan(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([scores * 0, scores / (x.amax() < 0.5).float()], 1)

    images = one_image(0.0)
    candidate = torch.full_like(images.pixels, 0.75)
    assert not judge(make_classifier("nan", Nan(), (1, 2, 2)), images, candidate, Norm.L2, None).success.any()
