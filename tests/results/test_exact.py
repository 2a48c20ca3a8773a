"""Exact distances: when a proof and a witness meet, in the table of bounds, in runs of before, and on an oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import robusteval as rv
from forging import copied
from oracles import affine, affine_distances, random_images
from robusteval.auditing.verification.tables import check_tables
from robusteval.core.norms import BALLS, Norm
from robusteval.results.below import as_csv
from robusteval.results.exact import EXACT_COLUMNS, is_exact
from robusteval.results.files import write_frame
from robusteval.results.run import Run

PROTOCOL = """
[[attacks]]
method = "fab"
norm = "linf"
targets = 4
[[certificates]]
method = "crown"
norm = "linf"
"""
N = 12


@pytest.mark.parametrize(
    ("proof", "upper", "exact"),
    [
        (0.1, 0.101, True),
        (0.1, 0.1, True),
        (0.1, 0.1011, False),
        (0.1, 0.0999, False),  # a refuted proof
        (0.1, math.inf, False),
        (0.0, 0.1, False),
        (0.0, 0.0, False),  # misclassified
        (math.inf, math.inf, True),  # nothing can break it
        (0.0, math.inf, False),
    ],
)
def test_a_distance_is_exact_where_a_witness_meets_a_proof(proof: float, upper: float, exact: bool) -> None:
    assert is_exact([proof], [upper]).tolist() == [exact]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[float]]:
    """An audit of an affine network, which CROWN and FAB know exactly, and its distances."""
    folder = tmp_path_factory.mktemp("exact")
    classifier, weight, bias = affine(3)
    images = random_images(4, N, classifier)
    (folder / "p.toml").write_text(PROTOCOL)
    data = (images.pixels, images.labels)
    run = rv.audit(classifier.module, data, str(folder / "p.toml"), folder / "run", batch_size=N, device="cpu")
    return run, affine_distances(weight, bias, images, Norm.LINF).tolist()


def said_of(run: Run) -> list[str]:
    return [found.line for found in check_tables(run) if found.kind == "wrong"]


def rewritten(run: Run, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """The bounds of a run changed, in both of their files."""
    table = change(run.bounds())
    write_frame(run.path / "tables" / "bounds.parquet", table)
    (run.path / "tables" / "bounds.csv").write_text(as_csv(table), encoding="utf-8", newline="\n")


def test_the_distance_of_an_affine_network_is_exact_and_enclosed(oracle: tuple[Run, list[float]]) -> None:
    run, distances = oracle
    bounds = run.bounds()
    exact = bounds["exact_linf"].to_numpy()
    assert exact.mean() >= 0.75, bounds[["proof_linf", "upper_linf"]]
    assert (bounds["proof_linf"] <= distances).all()
    assert (bounds["upper_linf"] >= np.array(distances) * (1 - 1e-6)).all()
    assert np.allclose(bounds["upper_linf"][exact], np.array(distances)[exact], rtol=0.01)
    for norm in BALLS:
        assert (
            bounds[EXACT_COLUMNS[norm]].tolist() == is_exact(bounds[f"proof_{norm}"], bounds[f"upper_{norm}"]).tolist()
        )
    assert said_of(run) == []


def test_a_wrong_exact_is_named(oracle: tuple[Run, list[float]], tmp_path: Path) -> None:
    run = copied(oracle[0], tmp_path / "run")
    rewritten(run, lambda f: f.assign(exact_linf=~f["exact_linf"]))
    said = said_of(run)
    assert any("table bounds, row 0 " in line and "exact_linf is" in line for line in said)
    assert any("tables/bounds.csv, line 2 " in line for line in said)


def test_a_run_of_before_is_read_and_verified_as_it_is(oracle: tuple[Run, list[float]], tmp_path: Path) -> None:
    run, later = copied(oracle[0], tmp_path / "run"), list(EXACT_COLUMNS.values())
    with_them = rv.headline(run)
    rewritten(run, lambda f: f.drop(columns=later))
    assert not set(later) & set(run.bounds())
    assert said_of(run) == []
    assert rv.headline(run) == with_them
    assert "Exact distances" in rv.write_report(run).read_text()
    # Some of them alone are no table of any version.
    rewritten(run, lambda f: f.assign(exact_l1=False))
    assert any("expected the columns" in line for line in said_of(run))
