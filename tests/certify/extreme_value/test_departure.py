"""The climb that looks for the largest departure from the linear model."""

from __future__ import annotations

import pytest
import torch

from certifying import SHAPE, random_images, small_net
from robusteval.certify.extreme_value.departure import Tangent, farthest
from robusteval.certify.extreme_value.loss import margin_loss
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("radius", [0.05, 0.7, 4.0])
def test_a_climb_stays_in_the_ball_and_in_the_box_and_gains(norm: Norm, radius: float) -> None:
    classifier, images = small_net(), random_images(20, classes=3)
    tangent = Tangent.at(classifier, images, margin_loss)
    direction = Streams.for_images(3, "v", images.ids, images.pixels).in_ball(norm, *SHAPE)
    start = (images.pixels + radius * direction).clamp(0, 1)
    before = tangent.departure(start)
    at = start.clone().requires_grad_()
    margin_loss(classifier(at), images.labels).sum().backward()
    assert at.grad is not None
    step = farthest(images.pixels, at.grad - tangent.gradient, norm, radius)
    _, once = tangent.climbed(start, norm, radius, 1)
    assert torch.allclose(once, torch.maximum(before, tangent.departure(step)), atol=1e-12)
    near, after = tangent.climbed(start, norm, radius, 4)
    assert near.min() >= 0
    assert near.max() <= 1
    assert (norm.size(near - images.pixels) <= radius * (1 + 1e-12)).all()
    assert (after >= before).all()
    assert (after > before).any()
    assert torch.allclose(tangent.departure(near), after, atol=1e-12)
    loss = margin_loss(classifier.predict(near), images.labels) - margin_loss(
        classifier.predict(images.pixels), images.labels
    )
    linear = (tangent.gradient * (near - images.pixels)).flatten(1).sum(1)
    assert torch.allclose(after, loss - linear, atol=1e-12)


@pytest.mark.parametrize("norm", BALLS)
def test_the_farthest_image_is_the_best_of_the_ball_and_the_box(norm: Norm) -> None:
    """Of 3,000 images in both none has a larger <v, gradient>; in L2 up to what clipping costs."""
    generator = torch.Generator().manual_seed(1)
    x, gradient = (
        torch.rand(1, *SHAPE, generator=generator).double(),
        torch.randn(1, *SHAPE, generator=generator).double(),
    )
    x[0, 0, 0], x[0, 0, 2, 2] = torch.tensor([0.0, 1.0, 0.0, 1.0]), 0.0
    radius = {Norm.L1: 2.0, Norm.L2: 0.4, Norm.LINF: 0.2}[norm]
    best = farthest(x, gradient, norm, radius)
    assert norm.size(best - x) <= radius * (1 + 1e-12)
    assert best.min() >= 0
    assert best.max() <= 1
    gain = float((gradient * (best - x)).sum())
    many = Streams.for_images(0, "v", ["a"], x).select(torch.zeros(3000, dtype=torch.int64)).in_ball(norm, *SHAPE)
    others = (x + radius * many).clamp(0, 1) - x
    assert gain > float((gradient * others).flatten(1).sum(1).max())
    room = torch.where(gradient > 0, 1 - x, x)
    if norm is Norm.LINF:
        assert gain == pytest.approx(
            float((gradient.abs() * torch.where(gradient > 0, 1 - x, x).clamp_max(radius)).sum())
        )
    if norm is Norm.L2:
        # 0.98 for clipping; without the pixels at a wall it would be less than 0.94.
        assert gain > 0.98 * radius * float((gradient * (room > 0)).norm())
        assert float((gradient * (room > 0)).norm() / gradient.norm()) < 0.94
    if norm is Norm.L1:
        # A fractional knapsack: the room of the steepest pixels, until the radius is spent.
        left, value = radius, 0.0
        for i in gradient.flatten().abs().argsort(descending=True).tolist():
            taken = min(left, float(room.flatten()[i]))
            left, value = left - taken, value + taken * float(gradient.flatten()[i].abs())
        assert gain == pytest.approx(value)
