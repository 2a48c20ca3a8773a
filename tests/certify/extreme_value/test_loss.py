"""The loss whose slope and departure are bounded: margins of probabilities, of logits, and of the top classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from certifying import F64, linear_two_class, random_images, with_batch_size
from robusteval.certify.extreme_value.loss import margin_loss, slopes
from robusteval.core.errors import UnsupportedError
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.models.making import make_classifier


def test_margin_loss_is_the_difference_of_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=F64))
    loss = margin_loss(logits, torch.tensor([0, 1]))
    assert torch.allclose(loss, torch.tensor([-0.2, 0.5], dtype=F64), atol=1e-12)


def test_the_loss_of_logits_and_of_the_top_classes() -> None:
    logits = torch.tensor([[5.0, 3.0, 2.0, 4.0]], dtype=F64)
    assert margin_loss(logits, torch.tensor([1]), "logits") == 2
    assert margin_loss(logits, torch.tensor([1]), "logits", top=2) == 1
    assert margin_loss(logits, torch.tensor([1]), "logits", top=3) == -1
    p = logits.softmax(1)[0]
    assert float(margin_loss(logits, torch.tensor([2]), top=3)) == pytest.approx(float(p[1] - p[2]))
    with pytest.raises(UnsupportedError, match="expected top below the number of classes, 4, got 4"):
        margin_loss(logits, torch.tensor([2]), top=4)


@given(
    arrays(np.float64, (6, 5), elements=st.floats(-3, 3)),
    st.integers(1, 4),
    st.sampled_from(["logits", "probabilities"]),
)
@settings(max_examples=30)
def test_the_loss_is_negative_exactly_where_the_label_is_among_the_top(
    scores: NDArray[np.float64], top: int, kind: Literal["logits", "probabilities"]
) -> None:
    logits = torch.tensor(scores) + torch.arange(5) * 1e-3
    labels = torch.arange(6) % 5
    among = (logits.argsort(1, descending=True)[:, :top] == labels[:, None]).any(1)
    assert torch.equal(margin_loss(logits, labels, kind, top) < 0, among)


@pytest.mark.parametrize("norm", BALLS)
def test_slopes_match_the_closed_form(norm: Norm) -> None:
    """For two classes l = -tanh(z / 2), so |grad l|_* = |w|_* / (2 cosh^2(z / 2))."""
    classifier, w, b = linear_two_class()
    images = random_images(40)
    z = (images.pixels.flatten(1) @ w + b) * (2 * images.labels - 1)
    found = slopes(with_batch_size(classifier, 7), images, norm)
    assert torch.allclose(found.margin, torch.tanh(z / 2), atol=1e-12)
    expected = norm.dual.size(w[None]) / (2 * torch.cosh(z / 2) ** 2)
    assert torch.allclose(found.slope, expected, rtol=1e-9, atol=1e-12)


def test_a_slope_that_is_not_finite_stays_so() -> None:
    """A bound that rests on it must not take it for zero, as an attack does."""

    class Root(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            score = (pixels.flatten(1) - 0.5).abs().sqrt().sum(1)
            return torch.stack([5 - score, score], dim=1)

    classifier = make_classifier("root", nn.Sequential(Root()), (1, 2, 2))
    pixels = torch.tensor([[0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.25]]).view(2, 1, 2, 2)
    found = slopes(classifier, Images(("a", "b"), pixels, torch.tensor([0, 0])), Norm.L2)
    assert found.slope.isfinite().tolist() == [False, True]
