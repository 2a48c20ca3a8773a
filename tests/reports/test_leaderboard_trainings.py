"""How each model was trained, on a leaderboard: in every form of it, and in boards from before it was told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forms import in_latex, in_markdown

from records import with_model
from robusteval.reports.leaderboard import leaderboard, read_board, write_board
from robusteval.results.run import Run
from run_fixture import EVIL, Fake, build_paper_run
from visiting import Visit

TRAININGS = {"weak": "Standard training", "strong": "PGD training, budget 8/255", EVIL: None}
FAR = {"weak": 0.02, "strong": 0.3, EVIL: 0.1}


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    found = []
    for i, (name, training) in enumerate(TRAININGS.items()):
        attack = Fake("pgd-linf", "pgd", "linf", {"linf": [FAR[name]] * 4}, budgets=(0.05,))
        run = build_paper_run(tmp_path / str(i), "mine", [True] * 4, [attack], name=name, budgets={"linf": [0.05]})
        fingerprint = hashlib.sha256(name.encode()).hexdigest()
        found.append(with_model(run, fingerprint=fingerprint, training=training))
    return found


def test_every_form_says_how_the_models_were_trained(tmp_path: Path, runs: list[Run], browser: Any) -> None:
    board = leaderboard(runs)
    assert {e.model: e.training for e in board.entries} == TRAININGS
    page = write_board(board, tmp_path)
    texts = {form: page.with_suffix(form).read_text() for form in (".html", ".md", ".tex", ".csv", ".json")}
    for text in texts.values():
        assert "PGD training, budget 8/255" in text
    rows = [[e.model, "digits-cnn", e.training or "-"] for e in board.entries]
    in_text = in_markdown(texts[".md"])
    assert in_text["Models"][1:] == rows
    assert [[row[1], *row[-2:]] for row in in_text["Ranking"][1:]] == rows
    assert in_latex((tmp_path / "tables" / "models.tex").read_text())["Models"][1:] == rows
    table = pd.read_csv(tmp_path / "leaderboard.csv", keep_default_na=False)
    assert dict(zip(table["model"], table["training"], strict=True)) == {m: t or "" for m, t in TRAININGS.items()}
    export = json.loads((tmp_path / "robustbench" / "Linf-0.05" / "strong.json").read_text())
    assert export["footnote"].endswith("; trained by: PGD training, budget 8/255")
    visit = Visit(browser, page)
    beside = visit.tab.locator("#board tbody td.text").all_text_contents()
    assert beside == [cell for row in rows for cell in row[1:]]
    # Sorted by name.
    visit.tab.locator("#board thead tr:last-child th", has_text="Model").click()
    visit.tab.wait_for_function("() => document.querySelector('#board tbody tr:last-child th').textContent[0] === 'w'")
    assert visit.said == []


def test_a_board_from_before_trainings_were_told_is_read(tmp_path: Path, runs: list[Run]) -> None:
    bare = [with_model(run, training=None) for run in runs]
    write_board(leaderboard(runs), tmp_path)
    path = tmp_path / "leaderboard.json"
    data = json.loads(path.read_text())
    assert data["version"] == 2
    for entry in data["entries"]:
        del entry["training"]
    path.write_text(json.dumps(data))
    assert read_board(path) == leaderboard(bare)
