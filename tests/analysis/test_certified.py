"""Certified accuracy against radius, from tables made by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from robusteval.analysis.coverage import certified_accuracy, certified_curve
from robusteval.core.errors import UserError
from run_fixture import build_run

IMAGES = pd.DataFrame({"image_id": list("abcdef"), "label": [0, 1, 2, 0, 1, 2]})
ROWS = pd.DataFrame(
    {
        # In another order than the images; the image f has no row.
        "image_id": list("edcba"),
        "radius": [0.9, 0.0, 0.7, 0.4, 0.2],
        "predicted": [0, 0, 2, 1, 0],
        "abstained": [False, True, False, False, False],
    }
)


def test_the_share_falls_at_each_radius_that_holds() -> None:
    """a, b and c hold; d abstains for the right class, e names another, f has no row."""
    curve = certified_accuracy(ROWS, IMAGES)
    assert curve["radius"].tolist() == [0, 0.2, 0.4, 0.7]
    assert np.allclose(curve["share"], [3 / 6, 3 / 6, 2 / 6, 1 / 6])
    for count, low, high in zip([3, 3, 2, 1], curve["low"], curve["high"], strict=True):
        assert low == pytest.approx(beta.ppf(0.025, count, 7 - count))
        assert high == pytest.approx(beta.ppf(0.975, count + 1, 6 - count))


def test_any_radius_may_be_asked_for() -> None:
    curve = certified_accuracy(ROWS, IMAGES, [0.1, 0.2, 0.2000001, 0.5, 5.0])
    assert np.allclose(curve["share"], np.array([3, 3, 2, 1, 0]) / 6)
    assert curve["low"].iloc[-1] == 0
    assert curve["high"].iloc[-1] == pytest.approx(1 - 0.025 ** (1 / 6))


def test_nothing_certified_is_a_share_of_zero() -> None:
    curve = certified_accuracy(ROWS.assign(abstained=True), IMAGES)
    assert curve[["radius", "share"]].to_numpy().tolist() == [[0, 0]]


def test_the_curve_of_a_run_is_that_of_its_tables(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    table, images = run.table("certificates"), run.table("images")
    rows = table[table["method"] == "smoothing-l2"].merge(images[["image_id", "label"]], on="image_id")
    for radius in (0.0, 0.45, 0.75):
        held = (rows["predicted"] == rows["label"]) & ~rows["abstained"] & (rows["radius"] >= radius)
        assert certified_curve(run, "smoothing-l2", [radius])["share"].item() == pytest.approx(held.mean())
    with pytest.raises(UserError, match=r"expected a certificate of this run \(.*smoothing-l2.*\), got smoothing"):
        certified_curve(run, "smoothing")


def test_the_curve_needs_no_torch() -> None:
    probe = "import sys, robusteval.analysis.coverage, robusteval.numerics.binomial; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
