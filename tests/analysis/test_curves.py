"""Curves, areas and distances of a run whose numbers are known by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paper_tables import CORRECT, INF
from scipy import stats

from robusteval.analysis.curves import area, curve
from robusteval.analysis.distances import reaches, stage_wins, wins
from robusteval.analysis.intervals import clopper_pearson, mean, mean_share
from robusteval.analysis.results import Results
from robusteval.attacks import ATTACKS
from robusteval.reports import accuracy_curve, write_report
from robusteval.results.run import Run
from run_fixture import Fake, build_paper_run


def test_a_curve_is_right_on_any_grid() -> None:
    far = [0.0, 0.1, 0.1, 0.3, INF]
    steps = curve(far)
    assert steps["budget"].tolist() == [0.0, 0.1, 0.3]
    assert steps["share"].tolist() == [0.8, 0.4, 0.2]
    given = curve(far, [0.05, 0.1, 1.0, INF])
    assert given["share"].tolist() == [0.8, 0.4, 0.2, 0.2]
    low, high = clopper_pearson([4, 2, 1, 1], 5)
    assert given["low"].tolist() == low.tolist()
    assert given["high"].tolist() == high.tolist()


def test_the_area_is_the_integral_of_the_curve() -> None:
    rng = np.random.default_rng(0)
    far = np.append(rng.exponential(0.1, 40), [0.0, INF, INF])
    limit = 32 / 255
    steps = curve(far)
    at = np.append(steps["budget"][steps["budget"] < limit], limit)
    exact = float((np.diff(at) * steps["share"][: len(at) - 1]).sum() / limit)
    assert area(far, limit).value == pytest.approx(exact, rel=1e-9)
    assert area([INF, INF], limit).value == 1.0
    assert area([0.0], limit).value == 0.0
    assert area([limit / 2, INF], limit).value == 0.75


@pytest.mark.parametrize("spread", ["shares", "uniform", "nearly all one"])
def test_the_interval_of_a_mean_share_is_never_too_narrow(spread: str) -> None:
    rng = np.random.default_rng(1)
    draws: dict[str, tuple[Callable[[], Any], float]] = {
        "shares": (lambda: rng.random(30) < 0.2, 0.2),
        "uniform": (lambda: rng.random(30), 0.5),
        "nearly all one": (lambda: 1 - rng.random(30) * (rng.random(30) < 0.04), 0.98),
    }
    draw, truth = draws[spread]
    trials = 2000
    misses = 0
    for _ in range(trials):
        found = mean_share(draw())
        misses += not found.low <= truth <= found.high
    # At most 5 % miss; the bound is the 99.99 % quantile of so many misses at exactly 5 %.
    assert misses <= stats.binom.ppf(0.9999, trials, 0.05)
    assert mean_share([1.0] * 30).low < 0.95


def test_the_mean_has_students_interval() -> None:
    values = [0.1, 0.4, 0.2, 0.9]
    found = mean(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean(values, least=0.0).low == 0.0
    assert math.isnan(mean([]).value)


@pytest.fixture
def distances(tmp_path: Path) -> Run:
    near = Fake("deepfool", "deepfool", "l2", {"l2": [0.4, 0.8, INF, 0.0], "linf": [0.2, 0.3, INF, 0.0]})
    fixed = Fake("pgd", "pgd", "linf", {"l2": [1.0, INF, 0.6, 0.0], "linf": [0.1, INF, 0.05, 0.0]}, (0.05, 0.1))
    stages = [("pgd", "stage", 0.05, [np.nan, np.nan, 3.0, np.nan]), ("pgd", "stage", 0.1, [1.0, np.nan, 4.0, np.nan])]
    stages.append(("deepfool", "deformation", 0.0, [1.0, 3.0, np.nan, np.nan]))
    return build_paper_run(
        tmp_path, "mine", CORRECT, [near, fixed], budgets={"l2": [1.0], "l0": [4]}, measurements=stages
    )


def test_failures_are_counted_and_shown(distances: Run) -> None:
    found = {(r.stage, r.norm): r for r in reaches(Results(distances))}
    deepfool = found["deepfool", "l2"]
    assert (deepfool.n, deepfool.failures) == (4, 1)
    assert deepfool.mean.value == pytest.approx((0.4 + 0.8 + 0) / 3)
    assert deepfool.median.value == pytest.approx(0.6)
    assert deepfool.mean_square == pytest.approx((0.4**2 + 0.8**2) / 16 / 3)
    # The images are 4 x 4 of brightness 0.5: their L2 size is 2.
    assert deepfool.relative == pytest.approx(1.2 / 2 / 3)
    assert found["pgd", "linf"].relative == pytest.approx(0.15 / 0.5 / 3)
    everything = found["", "l2"]
    assert everything.failures == 0
    assert everything.mean.value == pytest.approx((0.4 + 0.8 + 0.6) / 4)
    # PGD in its own norm was tried up to 0.1, DeepFool without a limit.
    areas = dict(found["pgd", "linf"].areas)
    assert areas[32 / 255] is None
    share = areas[8 / 255]
    assert share is not None
    assert share.value == pytest.approx(3 / 4)
    assert all(share is not None for _, share in found["", "linf"].areas)


def test_the_closest_attack_wins_an_image(distances: Run) -> None:
    counts = wins(Results(distances))
    # The norms of the protocol's budgets first.
    assert counts.columns.tolist() == ["l2", "l0", "linf"]
    rows = dict(zip(counts.index, counts[["l2", "linf"]].to_numpy().tolist(), strict=True))
    assert rows["DeepFool, L2"] == [2, 1]
    assert rows["PGD, Linf"] == [1, 2]
    assert rows["the image itself"] == [1, 1]


def test_the_stage_that_broke_an_image_counts_once(distances: Run) -> None:
    record = distances.manifest.stage("pgd").model_copy(update={"ensemble": ATTACKS["auto"].ensemble})
    ensemble = replace(distances, manifest=distances.manifest.with_stage(record))
    counts = {stage: n for _, stage, n in stage_wins(Results(ensemble))}
    assert counts == {"APGD on cross-entropy": 1, "targeted APGD": 0, "FMN": 0, "targeted FAB": 1, "Square": 0}


def test_a_report_shows_distances_in_every_norm_asked_for(distances: Run) -> None:
    report = write_report(distances)
    page, text = report.read_text(), report.with_suffix(".md").read_text()
    assert {p.stem for p in (distances.path / "figures").glob("curves-*.csv")} == {
        "curves-l0",
        "curves-l2",
        "curves-linf",
    }
    for part in (
        "Minimum distances in L2",
        "Averaged accuracy in Linf",
        "Closest witness of each image",
        "deformation",
    ):
        assert part in page
        assert part in text
    rows = list(csv.DictReader((distances.path / "tables" / "distances.csv").open()))
    row = next(r for r in rows if r["attack"] == "DeepFool, L2" and r["norm"] == "l2")
    assert row["not_found"] == "1"
    assert float(row["median"]) == pytest.approx(0.6)
    curves = list(csv.DictReader((distances.path / "figures" / "curves-linf.csv").open()))
    assert {r["attack"] for r in curves} == {"PGD", "all attacks"}
    assert all(float(r["low"]) <= float(r["share"]) <= float(r["high"]) for r in curves)
    assert "Tables of" not in page


def test_accuracy_curve_takes_any_attack_norm_and_grid(distances: Run) -> None:
    assert accuracy_curve(distances, "linf", [0.0, 0.1, 0.2], "deepfool")["share"].tolist() == [0.75, 0.75, 0.5]
    assert accuracy_curve(distances, "l2", [0.5])["share"].tolist() == [0.5]
    assert accuracy_curve(distances, "l2", [0.5], "no-such")["share"].tolist() == [1.0]
