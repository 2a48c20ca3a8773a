"""A package of its own adds a defense through an entry point: listed, with options of its own, and trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import here
from robusteval.defenses import DEFENSES
from robusteval.models.card import read_card
from trainings import rows_of_light, write_npz

MODULE = '''
from robusteval.defenses.base import losses
from robusteval.defenses.standard import Standard

class Tempered(Standard):
    """Logits divided by a temperature."""

    name = "greys.tempered_v2"
    title = "Tempered training"
    summary = "logits divided by a temperature"

    max_temperature: float = 2.0
    """Of the logits."""

    def objective(self, network, batch, state):
        return losses(network(batch.pixels) / self.max_temperature, batch.labels).mean(), state
'''
POINTS = "[robusteval.defenses]\ngreys.tempered_v2 = tempered_greys:Tempered\nbroken = tempered_greys:Gone\n"
NETWORK = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package, as an installer leaves it; the registry looks for packages once, and here again."""
    site = tmp_path / "site"
    (metadata := site / "greys-0.3.dist-info").mkdir(parents=True)
    (site / "tempered_greys.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greys\nVersion: 0.3\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(site)
    vars(DEFENSES).pop("origins", None)
    yield tmp_path
    vars(DEFENSES).pop("origins", None)


def test_it_trains_by_its_name_with_its_own_options(installed: Path) -> None:
    data, out = write_npz(installed / "d.npz", rows_of_light()), installed / "m.safetensors"
    (installed / "net.py").write_text(NETWORK)
    arguments = ["--data", data, "--arch", f"{installed / 'net.py'}:build", "--epochs", 1, "--out", out]
    done = here("train", "greys.tempered_v2", *arguments, "--max-temperature", 3)
    assert done.returncode == 0, done.stderr
    card = read_card(out)
    assert card is not None
    assert (card.trained.defense, card.trained.package) == ("greys.tempered_v2", "greys 0.3")
    assert card.trained.settings == {"max_temperature": 3}
    assert "greys.tempered\\_v2 (greys 0.3)" in out.with_suffix(".md").read_text()


def test_it_is_listed_with_its_package(installed: Path) -> None:
    assert "logits divided by a temperature [greys 0.3]" in here("list", "defenses").stdout
    assert "--max-temperature" in here("train", "greys.tempered_v2", "--help").stdout


def test_one_that_cannot_be_loaded_is_one_line_and_does_not_hide_the_others(installed: Path) -> None:
    done = here("train", "broken", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected tempered_greys:Gone of greys for the defense 'broken', got ")
    assert len(done.stderr.splitlines()) == 1
    overview = here("train", "--help")
    assert overview.returncode == 0, overview.stderr
    assert "greys.tempered_v2" in overview.stdout
