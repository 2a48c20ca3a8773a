"""The example of docs/defenses.md, as it stands there: trained, and its setting is an option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import ROOT, here
from robusteval.models.card import read_card


def test_a_defense_in_a_file_of_the_user_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"^```python\n(# mine\.py.*?)^```$", (ROOT / "docs" / "defenses.md").read_text(), re.M | re.S)
    assert found is not None
    (tmp_path / "mine.py").write_text(found[1])
    monkeypatch.chdir(tmp_path)
    asked = ("--data", "digits:train", "--limit", "100", "--arch", "digits-cnn", "--out", "mine.safetensors")
    done = here("train", "mine.py:LabelNoise", "--share", "0.2", "--epochs", "1", *asked)
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "mine.safetensors")
    assert card is not None
    assert card.trained.title == "Label noise"
    assert card.trained.settings == {"share": 0.2}
