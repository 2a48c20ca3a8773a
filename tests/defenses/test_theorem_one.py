"""OpNorm's theorem 1 of the losses that are trained: adversarial training is operator norm regularization."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from defending import F64, dense_net, gradient_left, linear
from robusteval.core.norms import BALLS, Norm
from robusteval.defenses.ascent_training import AdversarialTraining
from robusteval.defenses.base import Batch
from robusteval.defenses.operator_norm import OperatorNormRegularization
from robusteval.metrics.operator_norm import operator_norm
from robusteval.numerics.jacobian import jacobian

EPS = 1e-4
"""Inside the linear region of each image, checked below; pixels near the middle are far from the walls of the box."""
SAME = 1e-7
"""Of losses and gradients: logits of order one round at 1e-16, differences over EPS at 1e-12, and a direction that the
huge step turns by 1e-9 of itself; the weights' gradient of |.|_2 divides by the size of the difference once more."""


def interior(seed: int, n: int = 4) -> Batch:
    pixels = 0.5 + 0.1 * (torch.rand(n, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=F64) - 0.5)
    return Batch(pixels, torch.arange(n) % 3, torch.Generator().manual_seed(seed))


def distance_from_a_bend(network: nn.Sequential, batch: Batch) -> Tensor:
    """How far in Linf each image is from the nearest bend of a hidden unit, (N,)."""
    first = linear(network, 1)
    before: Tensor = first(batch.pixels.flatten(1))
    return (before.abs() / first.weight.abs().sum(1)).amin(1)


@pytest.mark.parametrize(("p", "q"), list(itertools.product(BALLS, BALLS)))
def test_in_one_linear_region_a_huge_step_gives_the_loss_and_the_gradient_of_the_power_method(p: Norm, q: Norm) -> None:
    """Both reach one of the maximisers v and -v of |J v|_q, which are equal in the linear region. Several are possible:
    each takes from eight starts the one whose loss is highest. For a gain below the norm the two could differ."""
    network = dense_net(6, 8, 3, seed=4)
    assert distance_from_a_bend(network, interior(0)).min() > 2 * EPS
    # All but (2, 2) stop moving within a few steps.
    steps, starts = (80, 1) if p is q is Norm.L2 else (15, 8)
    adversarial = AdversarialTraining(norm=p, q=q, loss="logits", budget=EPS, steps=steps, step=1e9, weight=1.0)
    penalty = OperatorNormRegularization(p=p, q=q, eps=EPS, iterations=steps, form="difference", weight=1.0)
    for image in range(3):
        found = []
        for defense in (adversarial, penalty):
            tried = []
            for seed in range(starts):
                whole = interior(0)
                batch = Batch(whole.pixels[image, None], whole.labels[image, None], torch.Generator().manual_seed(seed))
                loss, gradient, _ = gradient_left(defense, network, batch, {})
                tried.append((loss.item(), gradient))
            found.append(max(tried, key=lambda t: t[0]))
        (highest, gradient), (other_highest, other) = found
        assert highest == pytest.approx(other_highest, rel=SAME)
        assert torch.allclose(gradient, other, rtol=0, atol=SAME * gradient.abs().max().item() + 1e-9)


@pytest.mark.parametrize(("p", "q"), [(Norm.L2, Norm.L2), (Norm.L1, Norm.L2), (Norm.LINF, Norm.LINF)])
def test_the_penalty_is_eps_times_the_operator_norm(p: Norm, q: Norm) -> None:
    network, batch = dense_net(6, 8, 3, seed=4), interior(0)
    norms = operator_norm(jacobian(network, batch.pixels).detach(), p, q)
    assert norms is not None
    found = []
    for seed in range(5):
        batch.generator.manual_seed(seed)
        defense = OperatorNormRegularization(p=p, q=q, eps=EPS, iterations=80, weight=1.0)
        without = defense.model_copy(update={"weight": 0.0})
        loss, plain = (d.objective(network, batch, {})[0].item() for d in (defense, without))
        found.append(loss - plain)
    if p is q is Norm.L2:
        assert found == pytest.approx([EPS * norms.mean().item()] * 5, rel=1e-6)
    assert max(found) <= EPS * norms.mean().item() * (1 + 1e-6)
