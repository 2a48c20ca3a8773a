"""The adversarial examples of training: in the ball and in the box, worse than their start, and without traces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from defending import F64, a_batch, conv_net
from defense_cases import EXAMPLES, IDS
from robusteval.core.norms import BALLS, Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.ascent import Adversarial, climbed
from robusteval.defenses.base import Defense, losses
from robusteval.defenses.trades import Trades

BUDGETS = {Norm.L1: 2.0, Norm.L2: 0.5, Norm.LINF: 0.1}
ROUNDING = 1e-12


def examples(norm: Norm, steps: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """The losses of forty images at their random starts and at their examples, and the examples."""
    network, defense = conv_net(), PGDTraining(norm=norm, budget=BUDGETS[norm], steps=steps)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    moved = defense.perturbed(network, a_batch(40))
    labels = a_batch(40).labels
    return losses(network(seen[0]), labels).detach(), losses(network(moved), labels).detach(), moved


@pytest.mark.parametrize("norm", BALLS)
def test_they_lie_in_the_ball_and_in_the_box(norm: Norm) -> None:
    pixels, (_, _, moved) = a_batch(40).pixels, examples(norm)
    sizes = norm.size(moved - pixels)
    assert (sizes <= BUDGETS[norm] * (1 + ROUNDING)).all()
    assert sizes.max() > 0.9 * BUDGETS[norm]
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not moved.requires_grad


@pytest.mark.parametrize("norm", BALLS)
def test_they_raise_the_loss_of_nearly_all_images_over_their_starts(norm: Norm) -> None:
    start, end, _ = examples(norm)
    assert (end > start).double().mean() >= 0.9


@pytest.mark.parametrize("norm", BALLS)
def test_they_are_steps_along_the_steepest_direction_each_projected(norm: Norm) -> None:
    """One step by hand from the image itself, on a linear loss: budget times the steepest direction, cut to the box."""
    a, pixels = torch.randn(4, 1, 3, 3, dtype=F64), torch.full((4, 1, 3, 3), 0.5, dtype=F64)
    found = climbed(nn.Flatten(), lambda z: (z * a.flatten(1)).sum(1), pixels, pixels, norm, 0.2, 1, 0.3)
    expected = pixels + norm.project(0.3 * norm.steepest(a), 0.2)
    assert torch.allclose(found, expected, atol=ROUNDING)


def test_the_start_is_random_and_the_steps_are_a_quarter_of_the_budget() -> None:
    network, pixels, seen = conv_net(), a_batch().pixels, list[Tensor]()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    PGDTraining(budget=0.1, steps=3).perturbed(network, a_batch())
    assert len(seen) == 3
    start = seen[0] - pixels
    assert start.abs().max() <= 0.1 + ROUNDING
    assert len(start.unique()) > 60
    inside = ((seen[1] - pixels).abs() < 0.099) & (seen[1] > 0) & (seen[1] < 1)
    moved = (seen[1] - seen[0])[inside].abs()
    # The start itself may have been cut to the box; where it was not, a step is 0.025 (no unit is dead for all).
    assert inside.sum() > 20
    assert torch.allclose(moved[moved > 0], torch.tensor(0.025, dtype=F64), atol=ROUNDING)


def with_norm() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()


def test_the_search_leaves_no_gradients_and_no_statistics() -> None:
    network = with_norm()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Trades(budget=0.1).perturbed(network, a_batch())
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    layer = network[1]
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.track_running_stats
    network(a_batch().pixels)
    assert int(layer.num_batches_tracked) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "defense",
    [d for d in EXAMPLES if d.name != "moment-regularization"],
    ids=[i for i, d in zip(IDS, EXAMPLES, strict=True) if d.name != "moment-regularization"],
)
def test_running_statistics_move_with_passes_that_are_trained_on_alone(defense: Defense) -> None:
    """One pass of the clean images, of the perturbed ones, or of both: never those of a search or of a power method."""
    network, batch = with_norm(), a_batch()
    state = defense.begin(network, batch.pixels, torch.Generator().manual_seed(0))
    layer = network[1]
    assert isinstance(layer, nn.BatchNorm2d)
    assert int(layer.num_batches_tracked) == 0  # type: ignore[arg-type]
    defense.backward(network, batch, state)
    assert 1 <= int(layer.num_batches_tracked) <= 2  # type: ignore[arg-type]
    assert layer.track_running_stats


def test_the_loss_to_climb_can_be_another() -> None:
    network, defense = conv_net(), PGDTraining(budget=0.1)
    assert isinstance(defense, Adversarial)
    lowest = defense.perturbed(network, a_batch(), lambda logits: -losses(logits, a_batch().labels))
    highest = defense.perturbed(network, a_batch())
    assert (losses(network(lowest), a_batch().labels) < losses(network(highest), a_batch().labels)).all()
