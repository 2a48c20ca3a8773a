"""A grid of budgets, several checkpoints at once, and what attacks measure on the way, through real audits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attacking import streams
from oracles import affine, affine_distances, random_images
from robusteval.analysis.results import Results
from robusteval.analysis.transfer import transfer_matrix
from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.attacks.deepfool import DeepFool
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.auditing.stages.attack import AttackStage
from robusteval.auditing.stages.base import Context, Shard
from robusteval.auditing.together import audit_together
from robusteval.auditing.verify import verify
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.core.registry import Origin
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.reports.formats.transfer import matrix_as_markdown, write_transfer_matrix
from robusteval.results.run import Run, stored_witness, witness_key

GRID = [0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2]


@pytest.fixture(scope="module")
def images() -> Images:
    return random_images(1, 24, affine(1)[0])


@pytest.fixture(scope="module")
def run(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """PGD and the ensemble on a grid, and the same PGD by bisection, on an affine model."""
    protocol = parse_protocol(
        {
            "budgets": {"linf": GRID},
            "attacks": [
                {"method": "pgd", "norm": "linf", "steps": 30, "step": 0.1, "restarts": 2, "loss": "margin"},
                {"method": "pgd", "norm": "linf", "steps": 30, "loss": "margin", "minimum_distance": True},
                {"method": "auto", "norm": "linf", "iterations": 10, "queries": 50},
            ],
        },
        "grid.toml",
    )
    out = tmp_path_factory.mktemp("grid") / "run"
    return run_audit(affine(1)[0], images, protocol, out, batch_size=10, device="cpu")


def test_a_grid_costs_a_logarithm_of_attacks(run: Run, images: Images) -> None:
    rows = run.table("witnesses")
    own = rows[rows["method"] == "pgd-linf"]
    tried = own[own["forwards"] > 0].groupby("image_id").size()
    assert len(tried) == len(images)
    assert tried.max() <= math.ceil(math.log2(len(GRID) + 1))


def test_the_grid_finds_what_the_exact_distances_allow(run: Run, images: Images) -> None:
    _, weight, bias = affine(1)
    exact = pd.Series(affine_distances(weight, bias, images, Norm.LINF), index=list(images.ids))
    rows = run.table("witnesses")
    own = rows[rows["method"] == "pgd-linf"]
    distance = own["image_id"].map(exact).to_numpy()
    fooled, budget = own["success"].to_numpy(bool), own["budget"].to_numpy()
    assert not fooled[distance > budget * (1 + 1e-5)].any()
    assert fooled[distance < 0.9 * budget].mean() > 0.95
    assert own.groupby("image_id")["success"].apply(lambda s: s.is_monotonic_increasing).all()


def test_a_image_is_kept_once_under_the_smallest_budget_that_it_serves(run: Run, images: Images) -> None:
    rows, arrays = run.table("witnesses"), run.arrays("pgd-linf")
    own = rows[(rows["method"] == "pgd-linf") & rows["success"]]
    smallest = own.groupby("image_id")["budget"].min()
    assert set(arrays) == {witness_key(str(i), float(b)) for i, b in smallest.items()}
    for row in own.itertuples():
        array = stored_witness(arrays, str(row.image_id), float(str(row.budget)), GRID)
        assert array is not None
        original = images.pixels[images.ids.index(str(row.image_id))].numpy()
        assert np.abs(array.astype(float) - original).max() == pytest.approx(row.linf, rel=1e-6)
    assert stored_witness(arrays, "nobody", 0.2, GRID) is None


def test_bisection_agrees_with_the_grid(run: Run) -> None:
    rows = run.table("witnesses")
    distance = rows[rows["method"] == "pgd-linf-distance"].set_index("image_id")["linf"]
    assert rows.loc[rows["method"] == "pgd-linf-distance", "budget"].isna().all()
    first = rows[(rows["method"] == "pgd-linf") & rows["success"]].groupby("image_id")["budget"].min()
    assert (distance.reindex(first.index) <= first * 1.15).mean() > 0.9


def test_the_ensemble_says_which_stage_won(run: Run) -> None:
    stages = run.table("measurements")
    own = stages[(stages["method"] == "auto-linf") & (stages["quantity"] == "stage")]
    assert len(own)
    assert own["value"].isin([1, 2, 3, 4]).all()
    rows = run.table("witnesses")
    won = rows[(rows["method"] == "auto-linf") & rows["success"]]
    assert set(won["image_id"]) == set(own["image_id"])
    assert set(own["at"]) <= set(GRID)


def test_the_run_verifies(run: Run) -> None:
    assert list(verify(run, affine(1)[0])) == []


def test_several_checkpoints_attack_one_another(images: Images, tmp_path: Path) -> None:
    from dataclasses import replace

    models = [replace(affine(seed)[0], name=f"model-{seed}") for seed in (1, 2, 3)]
    twin = replace(affine(4)[0], name="twin")
    protocol = parse_protocol(
        {"attacks": [{"method": "transfer", "norm": "linf", "steps": 5, "budgets": [0.05, 0.3]}]}, "t.toml"
    )
    runs = audit_together(models, images, protocol, tmp_path, sources=[twin], batch_size=24, device="cpu")
    assert [r.path.name for r in runs] == ["model-1", "model-2", "model-3"]
    matrix = transfer_matrix([Results(run) for run in runs])
    pairs = set(zip(matrix["source"], matrix["target"], strict=True))
    assert len(matrix) == 2 * 9
    assert pairs == {(s, f"model-{t}") for t in (1, 2, 3) for s in ("model-1", "model-2", "model-3", "twin")} - {
        (f"model-{t}", f"model-{t}") for t in (1, 2, 3)
    }
    own = matrix[(matrix["source"] == "twin") & (matrix["target"] == "model-1") & (matrix["budget"] == 0.3)]
    witnesses = runs[0].table("witnesses")
    stage = witnesses[(witnesses["method"] == "transfer-linf-from-twin") & (witnesses["budget"] == 0.3)]
    assert own["accuracy"].item() == pytest.approx(1 - stage["success"].mean())
    assert own["low"].item() <= own["accuracy"].item() <= own["high"].item()
    written = write_transfer_matrix(runs, tmp_path)
    assert written is not None
    assert written.read_text() == matrix_as_markdown(matrix)
    assert "| twin |" in written.read_text()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "transfer.csv"), matrix)


def test_checkpoints_of_one_name_are_refused(images: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="distinct names"):
        audit_together([affine(1)[0], affine(2)[0]], images, "quick", tmp_path)


def test_a_search_in_bfloat16_is_judged_in_full_precision(images: Images, tmp_path: Path) -> None:
    settings = {"method": "pgd", "norm": "linf", "steps": 10, "loss": "margin", "search_dtype": "bfloat16"}
    protocol = parse_protocol({"budgets": {"linf": [0.05, 0.2]}, "attacks": [settings]}, "b.toml")
    found = run_audit(affine(1)[0], images, protocol, tmp_path / "run", batch_size=24, device="cpu")
    rows = found.table("witnesses")
    fooled = rows[rows["success"]]
    assert len(fooled)
    assert (fooled["linf"] <= fooled["budget"] * (1 + 1e-6)).all()
    assert list(verify(found, affine(1)[0])) == []
    assert torch.get_default_dtype() is torch.float32


class Shy(FixedBudgetAttack):
    """Finds its closest image at large budgets only."""

    name = "shy"
    summary = "for tests"
    norms = (Norm.LINF,)

    def within(self, classifier: Classifier, images: Images, budget: torch.Tensor, streams: Streams) -> Candidates:
        close = DeepFool(norm=Norm.LINF).closest(classifier, images, streams).examples
        return Candidates(torch.where(column(budget >= GRID[3], close), close, images.pixels))


def test_a_witness_at_a_large_budget_serves_every_smaller_one_that_it_fits(images: Images) -> None:
    classifier = affine(1)[0]
    stage = AttackStage("shy", Shy(norm=Norm.LINF), Origin("here:Shy", "tests", "0"), "shy", tuple(GRID))
    correct = torch.ones(len(images), dtype=torch.bool)
    part = stage.compute(Context(classifier, (), 0, opened=classifier), Shard("00000", images, correct=correct))
    deepfool = DeepFool(norm=Norm.LINF).closest(classifier.metered(24), images, streams(images)).examples
    distance = Norm.LINF.size(deepfool.double() - images.pixels.double()).numpy()
    assert ((distance > GRID[0]) & (distance < GRID[3])).any(), "some images are at stake"
    for budget, rows in part.rows.groupby("budget"):
        found = (distance <= float(str(budget)) * (1 + 1e-6)) & (distance <= GRID[-1])
        assert (rows["success"].to_numpy() == found).all()
    won = part.rows[part.rows["success"]]
    smallest = won.groupby("image_id")["budget"].min()
    assert set(part.arrays) == {witness_key(str(i), float(b)) for i, b in smallest.items()}
    # The largest half of the grid is never tried again once an image fits the smaller half.
    asked = part.rows[part.rows["forwards"] > 0].groupby("image_id")["budget"].count()
    assert (asked <= 4).all()
