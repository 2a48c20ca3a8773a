"""Weight decay and gradient regularization against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from defending import F64, a_batch, affine_net, conv_net, gradient_left, linear, pixel_gradients
from robusteval.core.norms import Norm
from robusteval.defenses.base import Batch
from robusteval.defenses.gradient_regularization import GradientRegularization
from robusteval.defenses.standard import Standard
from robusteval.defenses.weight_decay import WeightDecay


def clean(network: nn.Module, batch: Batch) -> float:
    return Standard().objective(network, batch, {})[0].item()


def penalty(defense: GradientRegularization, network: nn.Module, batch: Batch) -> float:
    """R, the mean over the batch."""
    return 2 / defense.weight * (defense.objective(network, batch, {})[0].item() - clean(network, batch))


def test_weight_decay_squares_kernels_and_matrices_and_no_biases_or_normalisations() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    for p in network.parameters():
        nn.init.uniform_(p, 1, 2)
    squares = sum(w.square().sum().item() for n, w in network.named_parameters() if n in ("0.weight", "4.weight"))
    loss, _ = WeightDecay(decay=0.3).objective(network, a_batch(), {})
    assert loss.item() == pytest.approx(clean(network, a_batch()) + 0.15 * squares, rel=1e-12)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_double_backpropagation_is_the_squared_norm_of_the_gradient(norm: Norm) -> None:
    network, batch = conv_net(), a_batch()
    g = pixel_gradients(network, batch).flatten(1)
    expected = g.square().sum(1) if norm is Norm.L2 else g.abs().sum(1).square() / 16
    defense = GradientRegularization(norm=norm, by="double-backpropagation", weight=0.5)
    assert penalty(defense, network, batch) == pytest.approx(expected.mean().item(), rel=1e-12)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_finite_differences_of_one_image_by_hand(norm: Norm) -> None:
    """An affine model of two classes: the loss is log(1 + exp(-m)), m the margin, and its gradient is known."""
    network, x = affine_net(4, 2), torch.tensor([[[[0.2, 0.7], [0.4, 0.9]]]], dtype=F64)
    last = linear(network, 1)
    w, b = (last.weight[0] - last.weight[1]).detach(), (last.bias[0] - last.bias[1]).item()

    def loss(pixels: torch.Tensor) -> float:
        return math.log1p(math.exp(-(float(pixels.flatten() @ w) + b)))

    # The gradient of the loss of class 0 is a negative multiple of w.
    d = -w / w.norm() if norm is Norm.L2 else -w.sign() / 2
    slope = (loss(x + 0.1 * d.view(1, 1, 2, 2)) - loss(x)) / 0.1
    defense = GradientRegularization(norm=norm, h=0.1, weight=3.0)
    batch = Batch(x, torch.tensor([0]), torch.Generator())
    assert penalty(defense, network, batch) == pytest.approx(slope**2, rel=1e-11)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_finite_differences_become_the_exact_penalty_in_proportion_to_h(norm: Norm) -> None:
    """l is smooth along d on an affine model: the slope is off by h/2 times a curvature, so halving h halves it."""
    network, batch = affine_net(16, 3), a_batch()
    exact = penalty(GradientRegularization(norm=norm, by="double-backpropagation"), network, batch)
    off = [abs(penalty(GradientRegularization(norm=norm, h=h), network, batch) - exact) for h in (2e-3, 1e-3)]
    assert 0 < off[1] < 2e-3 * exact
    assert off[0] / off[1] == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
@pytest.mark.parametrize("by", ["finite-differences", "double-backpropagation"])
def test_images_without_a_gradient_add_nothing_and_leave_gradients_finite(norm: Norm, by: str) -> None:
    network, batch = conv_net(), a_batch()
    with torch.no_grad():
        linear(network, 3).weight.zero_()
    defense = GradientRegularization.model_validate({"norm": norm, "by": by})
    loss, gradient, _ = gradient_left(defense, network, batch, {})
    assert loss.item() == clean(network, batch)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
