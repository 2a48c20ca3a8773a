"""A training that is interrupted and continued gives the same weights, bit for bit, whatever the defense carries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from defense_cases import EXAMPLES, IDS
from robusteval.core.errors import UserError
from robusteval.defenses.base import Defense
from robusteval.defenses.standard import Standard
from robusteval.training.loop import train
from robusteval.training.saved import SavedTraining
from robusteval.training.settings import TrainingSettings
from trainings import continued, rows_of_light, same, small_cnn, state_of, stopped_in

SHORT = TrainingSettings(epochs=3, batch_size=20)
SETTINGS = {
    "nesterov and cosine": SHORT.model_copy(update={"optimizer": "sgd", "nesterov": True, "schedule": "cosine"}),
    "step": SHORT.model_copy(update={"schedule": "step", "milestones": (1, 2)}),
    "plateau": SHORT.model_copy(update={"schedule": "plateau", "validation": 0.25, "patience": 0, "factor": 0.5}),
    "augmentation": SHORT.model_copy(update={"crop": 1, "flip": True, "cutout": 2}),
}


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_every_defense_continues_to_the_same_weights(defense: Defense, tmp_path: Path) -> None:
    whole, stopped, again = small_cnn(), small_cnn(), small_cnn()
    history = train(whole, rows_of_light(), defense, SHORT)
    stopped_in(2, stopped, defense, SHORT, tmp_path / "m.unfinished")
    assert not same(state_of(stopped), state_of(whole))
    rest = continued(again, defense, SHORT, tmp_path / "m.unfinished")
    assert same(state_of(again), state_of(whole))
    assert [epoch.loss for epoch in rest] == [epoch.loss for epoch in history]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_schedule_and_augmentation_continues_to_the_same_weights(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    whole, again = small_cnn(), small_cnn()
    history = train(whole, rows_of_light(), Standard(), settings)
    for epoch in (2, 3):
        stopped_in(epoch, small_cnn(), Standard(), settings, tmp_path / "m.unfinished")
    rest = continued(again, Standard(), settings, tmp_path / "m.unfinished")
    assert same(state_of(again), state_of(whole))
    assert [epoch.learning_rate for epoch in rest] == [epoch.learning_rate for epoch in history]


def test_a_network_with_dropout_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole, again = small_cnn(dropout=0.5), small_cnn(dropout=0.5)
    train(whole, rows_of_light(), Standard(), SHORT)
    stopped_in(2, small_cnn(dropout=0.5), Standard(), SHORT, tmp_path / "m.unfinished")
    torch.manual_seed(123)  # what else the process draws must not matter
    continued(again, Standard(), SHORT, tmp_path / "m.unfinished")
    assert same(state_of(again), state_of(whole))


def test_the_best_epoch_survives_the_interruption(tmp_path: Path) -> None:
    """A rate so large that the first epoch stays the best one."""
    settings = TrainingSettings(epochs=4, batch_size=12, learning_rate=1.0, validation=0.25)
    whole, again = small_cnn(), small_cnn()
    history = train(whole, rows_of_light(), Standard(), settings)
    best = min(range(4), key=lambda i: history[i].validation_loss)
    assert best < 3, "expected a best epoch before the last one, so that this tests anything"
    stopped_in(best + 2, small_cnn(), Standard(), settings, tmp_path / "m.unfinished")
    continued(again, Standard(), settings, tmp_path / "m.unfinished")
    assert same(state_of(again), state_of(whole))


def test_one_that_was_killed_after_its_last_epoch_has_nothing_left_to_do(tmp_path: Path) -> None:
    path, again = tmp_path / "m.unfinished", small_cnn()
    whole = small_cnn()
    continued(whole, Standard(), SHORT, path)
    before = path.read_bytes()
    assert len(continued(again, Standard(), SHORT, path)) == 3
    assert same(state_of(again), state_of(whole))
    assert path.read_bytes() == before


BROKEN = {
    "garbage": b"\x80garbage" * 50,
    "text": b"not a training\n",
    "empty": b"",
    "a pickle": b"\x80\x04K\x01.",
    "a truncated file": None,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_and_left_alone(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m.unfinished"
    continued(small_cnn(), Standard(), SHORT, path)
    path.write_bytes(path.read_bytes()[:900] if content is None else content)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"m.unfinished, got something else; remove it to begin anew") as caught:
        continued(small_cnn(), Standard(), SHORT, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_of_another_object_is_refused(tmp_path: Path) -> None:
    for content in ([1, 2], {"weights": torch.ones(2)}, torch.ones(3), 5):
        torch.save(content, tmp_path / "m.unfinished")
        with pytest.raises(UserError, match="got something else; remove it"):
            SavedTraining(tmp_path / "m.unfinished", "key").read()


def test_a_file_of_another_key_is_refused(tmp_path: Path) -> None:
    SavedTraining(tmp_path / "m.unfinished", "one").write({})
    with pytest.raises(UserError, match=r"expected the command that left .*m.unfinished, got other settings"):
        SavedTraining(tmp_path / "m.unfinished", "other").read()


def test_what_a_kill_left_half_written_is_removed_with_the_file(tmp_path: Path) -> None:
    saved = SavedTraining(tmp_path / "m[1].unfinished", "key")
    saved.write({})
    (tmp_path / "m[1].unfinished.4711.tmp").write_bytes(b"half")
    (tmp_path / "m1.unfinished.4711.tmp").write_bytes(b"another's")
    saved.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["m1.unfinished.4711.tmp"]
