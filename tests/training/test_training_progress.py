"""What a training tells while it runs: every update, and the means of the epoch so far."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from robusteval.defenses.base import Defense
from robusteval.defenses.free_training import FreeTraining
from robusteval.defenses.standard import Standard
from robusteval.training.loop import Epoch, Tick, train
from robusteval.training.settings import TrainingSettings
from trainings import linear, rows_of_light


def told(network: nn.Module, defense: Defense, **settings: object) -> tuple[list[Tick], list[Epoch]]:
    ticks: list[Tick] = []
    given = TrainingSettings.model_validate(settings)
    return ticks, train(network, rows_of_light(), defense, given, tell=ticks.append)


@pytest.mark.parametrize(("defense", "updates"), [(Standard(), 1), (FreeTraining(budget=0.05, replays=3), 3)])
def test_every_update_counts_replays_included(defense: Defense, updates: int) -> None:
    ticks, history = told(linear(), defense, epochs=2, batch_size=20)
    total = 2 * 3 * updates
    assert [tick.done for tick in ticks] == list(range(1, total + 1))
    assert {tick.total for tick in ticks} == {total}
    assert [tick.epoch for tick in ticks] == [1] * (3 * updates) + [2] * (3 * updates)
    ends = (ticks[3 * updates - 1], ticks[-1])
    assert [(tick.loss, tick.accuracy) for tick in ends] == [(e.loss, e.accuracy) for e in history]


def test_images_held_out_take_no_updates() -> None:
    ticks, _ = told(linear(), Standard(), epochs=1, batch_size=12, validation=0.25)
    assert ticks[-1].done == ticks[-1].total == 3


def test_loss_and_accuracy_are_the_means_over_the_images_of_the_epoch() -> None:
    """At a rate of next to nothing the network stays as it is, and the means are those of the whole set."""
    network, images = linear(), rows_of_light()
    with torch.no_grad():
        logits = network(images.pixels)
    loss = float(functional.cross_entropy(logits, images.labels))
    accuracy = float((logits.argmax(1) == images.labels).double().mean())
    ticks, _ = told(network, Standard(), epochs=1, batch_size=20, learning_rate=1e-12, optimizer="sgd")
    assert ticks[-1].loss == pytest.approx(loss)
    assert ticks[-1].accuracy == pytest.approx(accuracy)
    assert ticks[0].loss != pytest.approx(loss, rel=1e-4)


def test_a_single_image_that_is_left_over_joins_the_batch_before_it() -> None:
    """47 images would be the last batch but for one: batch normalisation cannot standardise one image."""
    sizes: list[int] = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    network[0].register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    ticks, _ = told(network, Standard(), epochs=1, batch_size=47)
    assert sizes[-1] == 48
    assert ticks[-1].total == 1
    assert told(linear(), Standard(), epochs=1, batch_size=1)[0][-1].total == 48
