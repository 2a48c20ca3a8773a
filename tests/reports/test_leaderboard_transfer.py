"""Transfer attacks on a leaderboard: each model under what was made on the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from oracles import affine, random_images
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.together import audit_together
from robusteval.core.norms import Norm
from robusteval.reports.leaderboard import Board, leaderboard
from robusteval.reports.leaderboard.grids import transfer
from robusteval.results.run import Run

BUDGETS = (0.02, 0.06)
N = 7
"""Shares of seven images have no end in decimals, so that a cell tells which way it was rounded."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    models = [replace(affine(seed)[0], name=f"model-{seed}") for seed in (1, 2, 3)]
    attack = {"method": "transfer", "norm": "linf", "steps": 5, "budgets": list(BUDGETS)}
    protocol = parse_protocol({"attacks": [attack]}, "t.toml")
    # Labelled by each model in its turn, so that each is right on some.
    drawn = random_images(0, N, models[0])
    seen = torch.stack([model.predict(drawn.pixels).argmax(1) for model in models])
    images = replace(drawn, labels=seen[torch.arange(N) % 3, torch.arange(N)])
    return audit_together(models, images, protocol, tmp_path_factory.mktemp("runs"), device="cpu")


def standing(run: Run, source: str, budget: float) -> int:
    """How many images the model of a run still classifies correctly."""
    witnesses = run.table("witnesses")
    rows = witnesses[(witnesses["method"] == f"transfer-linf-from-{source}") & (witnesses["budget"] == budget)]
    return int((~rows["success"]).sum())


def test_a_column_is_the_model_a_row_what_it_was_attacked_from(runs: list[Run]) -> None:
    board = leaderboard(runs)
    found = {grid.title: grid for grid in transfer(board)}
    assert set(found) == {f"Transfer, Linf {b:g}" for b in BUDGETS}
    by_name = {run.manifest.model.name: run for run in runs}
    kept = []
    for budget in BUDGETS:
        first, *models = found[f"Transfer, Linf {budget:g}"].headings
        assert (first, set(models)) == ("made on", set(by_name))
        for source, *cells in found[f"Transfer, Linf {budget:g}"].rows:
            for model, cell in zip(models, cells, strict=True):
                if model == source:
                    assert cell == "-"
                    continue
                count = standing(by_name[model], source, budget)
                kept.append(count)
                # Rounded up to a tenth of a percent.
                assert cell == f"{-(-count * 1000 // N) / 10:.1f} %"
    assert len(kept) == 2 * 6
    assert len(set(kept) - {0, N}) > 1, "some models stand on some of the images"


def test_a_stage_names_the_model_that_it_was_made_on(runs: list[Run]) -> None:
    titles = {stage.title for stage in runs[0].manifest.stages if stage.kind == "attack"}
    assert titles == {"Transfer from model-2, Linf", "Transfer from model-3, Linf"}


def test_scores_come_back_from_json(runs: list[Run]) -> None:
    board = leaderboard(runs)
    again = Board.model_validate_json(board.model_dump_json())
    assert [entry.transfer for entry in again.entries] == [entry.transfer for entry in board.entries]
    assert {t.norm for entry in again.entries for t in entry.transfer} == {Norm.LINF}
