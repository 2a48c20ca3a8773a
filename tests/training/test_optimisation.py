"""Optimizers, schedules and the validation split: as torch defines them, and as the settings say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.defenses.base import Batch, Carried, Defense
from robusteval.defenses.standard import Standard
from robusteval.training.loop import Epoch, train
from robusteval.training.saved import SavedTraining
from robusteval.training.settings import TrainingSettings
from trainings import linear, rows_of_light, same, small_cnn, state_of


def trained(network: nn.Module | None = None, /, **settings: Any) -> tuple[nn.Module, list[Epoch]]:
    network = network or small_cnn()
    given = {"batch_size": 12, "epochs": 6} | settings
    return network, train(network, rows_of_light(), Standard(), TrainingSettings.model_validate(given))


def rates(**settings: Any) -> list[float]:
    return [epoch.learning_rate for epoch in trained(learning_rate=0.01, **settings)[1]]


def test_the_rate_stays_constant() -> None:
    assert rates() == [0.01] * 6


def test_the_rate_falls_by_the_factor_after_each_milestone() -> None:
    assert rates(schedule="step", milestones=(2, 4), factor=0.5) == pytest.approx(
        [0.01] * 2 + [0.005] * 2 + [0.0025] * 2
    )


def test_the_rate_falls_to_zero_along_a_cosine() -> None:
    expected = [0.01 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert rates(schedule="cosine") == pytest.approx(expected)


def test_the_rate_falls_where_the_validation_loss_has_not_fallen_for_patience_epochs() -> None:
    settings: dict[str, Any] = {
        "schedule": "plateau",
        "validation": 0.25,
        "patience": 1,
        "factor": 0.5,
        "learning_rate": 1.0,
    }
    history = trained(epochs=12, **settings)[1]
    expected, rate, best, bad = [], 1.0, math.inf, 0
    for epoch in history:
        expected.append(rate)
        # torch takes a fall of less than a ten thousandth for none.
        best, bad = (epoch.validation_loss, 0) if epoch.validation_loss < best * (1 - 1e-4) else (best, bad + 1)
        if bad > 1:
            rate, bad = rate / 2, 0
    assert [epoch.learning_rate for epoch in history] == pytest.approx(expected)
    assert len(set(expected)) > 1, "expected a plateau, so that this tests anything"


def gradients(network: nn.Module, images: Images) -> list[torch.Tensor]:
    loss = functional.cross_entropy(network(images.pixels), images.labels)
    return list(torch.autograd.grad(loss, list(network.parameters())))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_weight_decay_is_that_of_torch_by_hand(nesterov: bool) -> None:
    """Two updates on all images: g + decay w; v = momentum v + g; w - rate (g + momentum v), or w - rate v."""
    rate, momentum, decay = 0.1, 0.8, 0.01
    settings: dict[str, Any] = {"optimizer": "sgd", "momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
    network = trained(linear(), **settings, learning_rate=rate, epochs=2, batch_size=48)[0]
    by_hand, velocity = linear(), [torch.zeros_like(p) for p in linear().parameters()]
    for _ in range(2):
        found = gradients(by_hand, rows_of_light())
        with torch.no_grad():
            for p, g, v in zip(by_hand.parameters(), found, velocity, strict=True):
                g += decay * p
                v.mul_(momentum).add_(g)
                p.sub_(rate * (g + momentum * v if nesterov else v))
    for p, expected in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, expected)


def test_weight_decay_reaches_adam_too() -> None:
    plain, decayed = trained()[0], trained(weight_decay=0.5)[0]
    norms = [float(sum(p.detach().square().sum() for p in network.parameters())) for network in (plain, decayed)]
    assert norms[1] < norms[0]


class Seen(Defense):
    """Remembers the images of each update; the rest is standard."""

    name = "seen"
    title = "Seen"
    summary = "remembers"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[torch.Tensor, Carried]:
        SEEN.append(batch.pixels)
        return Standard().objective(network, batch, state)


SEEN: list[torch.Tensor] = []


def shown(seed: int, validation: float = 0.25, epochs: int = 2) -> list[set[int]]:
    """The images of each epoch, as their places in the set."""
    images = rows_of_light()
    SEEN.clear()
    settings = TrainingSettings(epochs=epochs, batch_size=10, validation=validation, seed=seed)
    train(linear(), images, Seen(), settings)
    rows = [int((images.pixels == x).flatten(1).all(1).nonzero().item()) for part in SEEN for x in part]
    size = len(rows) // epochs
    parts = [rows[i * size : (i + 1) * size] for i in range(epochs)]
    assert all(len(set(part)) == size for part in parts), "an image twice in an epoch"
    return [set(part) for part in parts]


def test_the_images_held_out_are_never_trained_on_and_are_drawn_by_the_seed() -> None:
    first, second = shown(seed=0)
    assert first == second
    assert len(first) == 36
    assert shown(seed=0)[0] == first
    assert shown(seed=1)[0] != first
    assert len(shown(seed=0, validation=0)[0]) == 48


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_the_epoch_of_the_least_validation_loss_is_kept(rate: float) -> None:
    """A large rate makes an early epoch the best one, a small one the last."""
    network, history = trained(validation=0.25, learning_rate=rate)
    best = min(range(6), key=lambda i: history[i].validation_loss)
    assert (best < 5) == (rate == 1.0)
    until, shorter = trained(validation=0.25, learning_rate=rate, epochs=best + 1)
    assert shorter[best].validation_loss == history[best].validation_loss
    assert same(state_of(network), state_of(until))


def test_the_validation_loss_is_that_of_the_images_held_out_in_eval_mode() -> None:
    network, history = trained(small_cnn(dropout=0.5), validation=0.25, epochs=1)
    images = rows_of_light()
    held = images.select(torch.randperm(48, generator=torch.Generator().manual_seed(0))[:12])
    with torch.no_grad():
        logits = network(held.pixels)
    assert history[0].validation_loss == pytest.approx(float(functional.cross_entropy(logits, held.labels)))
    assert history[0].validation_accuracy == pytest.approx(float((logits.argmax(1) == held.labels).float().mean()))
    assert math.isnan(trained(epochs=1)[1][0].validation_loss)


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_training_that_diverges_says_what_to_do_and_leaves_nothing_in_the_way(
    validation: float, tmp_path: Path
) -> None:
    settings = TrainingSettings(optimizer="sgd", learning_rate=1e10, epochs=9, batch_size=12, validation=validation)
    saved = SavedTraining(tmp_path / "m.unfinished", "key")
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16) for _ in range(3)))
    with pytest.raises(UserError, match=r"expected .*finite .*, got (nan|inf) in epoch \d; lower --learning-rate or"):
        train(deep, rows_of_light(), Standard(), settings, saved=saved)
    assert not list(tmp_path.iterdir())


class Steep(Standard):
    """A loss with gradients near the largest number."""

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[torch.Tensor, Carried]:
        loss, state = super().objective(network, batch, state)
        return loss * 1e35, state


def test_weights_that_stop_being_finite_with_the_last_update_are_an_error() -> None:
    """The loss before that update is still finite."""
    settings = TrainingSettings(optimizer="sgd", learning_rate=1e10, epochs=1, batch_size=48)
    with pytest.raises(UserError, match=r"expected finite weights, got (nan|inf) in epoch 1; lower --learning-rate"):
        train(small_cnn(), rows_of_light(), Steep(), settings)
