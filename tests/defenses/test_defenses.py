"""Every defense, by its registry: it learns, it is differentiable, it draws from its own stream alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from defense_cases import CASES, EXAMPLES, IDS
from robusteval.core.images import Images
from robusteval.defenses import DEFENSES
from robusteval.defenses.base import Batch, Defense
from robusteval.training.loop import train
from robusteval.training.settings import TrainingSettings


def separable(n: int = 96) -> Images:
    """Three classes of 4x4 images, each bright in another row."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    pixels = 0.3 * torch.rand(n, 1, 4, 4, generator=generator)
    pixels[torch.arange(n), 0, labels] += 0.6
    return Images(tuple(f"s{i:03d}" for i in range(n)), pixels, labels)


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_every_defense_is_listed_and_has_a_case() -> None:
    assert DEFENSES.keys() == CASES.keys()
    for name, defense in DEFENSES.items():
        assert all(type(case) is defense for case in CASES[name])
        assert defense.summary


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_training_learns_a_separable_set(defense: Defense) -> None:
    images, network = separable(), small_network()
    untrained = (network(images.pixels).argmax(1) == images.labels).float().mean()
    train(network, images, defense, TrainingSettings(epochs=25, batch_size=16, learning_rate=1e-2))
    assert untrained < 0.8
    assert not network.training
    assert (network(images.pixels).argmax(1) == images.labels).float().mean() > 0.95


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_training_depends_on_the_seed_and_on_nothing_else_random(defense: Defense) -> None:
    def trained(seed: int, elsewhere: int) -> Tensor:
        network = small_network()
        torch.manual_seed(elsewhere)  # the global generator must not matter
        train(network, separable(), defense, TrainingSettings(epochs=2, batch_size=10, seed=seed))
        return weights(network)

    assert torch.equal(trained(1, elsewhere=7), trained(1, elsewhere=8))
    assert not torch.equal(trained(1, elsewhere=7), trained(2, elsewhere=7))


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_an_update_touches_the_gradients_of_the_weights_alone(defense: Defense) -> None:
    images, network = separable(20), small_network()
    before, batch = weights(network), Batch(images.pixels, images.labels, torch.Generator().manual_seed(0))
    state = defense.begin(network, images.pixels, torch.Generator().manual_seed(0))
    loss, after = defense.backward(network, batch, state)
    assert loss.shape == ()
    assert not loss.requires_grad
    assert torch.equal(weights(network), before)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert after.keys() == state.keys()
    assert not any(value.requires_grad for value in after.values())
    assert batch.pixels.grad is None
