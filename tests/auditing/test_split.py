"""How cores are split between processes and threads: by the best of the measured rates, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commands import in_a_process
from robusteval.auditing.split import Split, best_split, measured_split
from robusteval.models.making import make_classifier


@pytest.mark.parametrize(
    ("rates", "split"),
    [
        ({4: 100.0, 2: 60.0, 1: 40.0}, Split(4, 1, 160.0, 100.0)),  # operations too short for threads
        ({4: 100.0, 2: 60.0, 1: 28.0}, Split(2, 2, 120.0, 100.0)),
        ({4: 100.0, 2: 54.0, 1: 27.0}, Split(1, 4, 100.0, 100.0)),  # not worth the start of more
        ({1: 5.0}, Split(1, 1, 5.0, 5.0)),
        ({3: 30.0, 1: 20.0}, Split(3, 1, 60.0, 30.0)),
    ],
)
def test_the_best_of_the_measured_rates_is_taken(rates: dict[int, float], split: Split) -> None:
    assert best_split(max(rates), rates.__getitem__) == split


def test_threads_are_as_they_were_afterwards() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    before = torch.get_num_threads()
    split = measured_split(make_classifier("model", network, (1, 4, 4)), torch.float32)
    assert torch.get_num_threads() == before
    assert split.processes * split.threads == before
    assert split.rate > 0


def test_it_is_said_which_split_was_taken_and_another_word_is_refused(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("certificates = [{method = 'ibp', norm = 'linf'}]", encoding="utf-8")
    asked = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    options = ("--limit", 4, "--protocol", tmp_path / "p.toml", "--device", "cpu", "--out", tmp_path / "run")
    done = in_a_process(*asked, *options, "--workers", "auto")
    assert done.returncode == 0, done.stderr
    assert "--workers auto: " in done.stderr
    refused = in_a_process(*asked, *options, "--workers", "many")
    assert refused.returncode == 2
    assert "expected --workers auto, or of at least 1 and at most 256, got many" in refused.stderr
