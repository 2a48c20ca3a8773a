"""Calibration of estimates: the split-conformal guarantee by simulation, and the factor by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robusteval.auditing.protocol import parse_protocol
from robusteval.core.errors import UserError
from robusteval.results.bracket import bracket
from robusteval.results.calibrate import Calibration, calibrate, conformal_factor, split
from robusteval.results.tables import CERTIFICATES_TABLE, IMAGES_TABLE, WITNESSES_TABLE


def tables(distances: Any, estimates: Any, correct: Any = True, **other: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bounds and certificates of a run with one attack and one estimate, in L2."""
    ids = [f"i{k:04d}" for k in range(len(distances))]
    images = IMAGES_TABLE.frame(
        {"image_id": ids, "label": 0, "predicted": 0, "correct": correct}
        | {"logit_margin": 1.0, "probability_margin": 0.5}
    )
    sizes = dict.fromkeys(("l0", "l1", "l2", "linf"), np.asarray(distances))
    found = {"success": np.isfinite(distances), "method": "pgd", "norm": "l2", "budget": np.nan, "predicted": 1}
    witnesses = WITNESSES_TABLE.frame({"image_id": ids, **found, **sizes, "forwards": 1.0, "backwards": 1.0})
    bound = {"method": "l-bound-l2", "subject": "f", "norm": "l2", "kind": "estimate", "alpha": np.nan} | other
    certificates = CERTIFICATES_TABLE.frame(
        {"image_id": ids, "radius": estimates, "predicted": 0, "abstained": False, **bound}
    )
    return bracket(images, witnesses, certificates), certificates


def test_a_further_image_is_violated_with_at_most_delta() -> None:
    """10,000 times a factor from 40 images, held against one more of the same kind; the estimate is often too high."""
    random = np.random.default_rng(0)
    ratios = random.lognormal(0.0, 0.8, size=(10_000, 41))
    for delta in (0.1, 0.25):
        factors = np.array([conformal_factor(row[:40], delta) for row in ratios])
        violated = int((factors > ratios[:, 40]).sum())
        assert binomtest(violated, 10_000, delta, alternative="greater").pvalue > 1e-4
        k = int(delta * 41)
        assert binomtest(violated, 10_000, k / 41).pvalue > 1e-4, "the factor is no smaller than it must be"


@pytest.mark.parametrize(
    ("ratios", "delta", "factor"),
    [
        ([0.5, 0.9, 0.7], 0.25, 0.5),
        ([0.5, 0.9, 0.7], 0.5, 0.7),
        ([0.5, 0.9, 0.7], 0.24, 0.0),
        ([2.0, 3.0, 4.0], 0.5, 1.0),
        ([np.inf, np.inf, np.inf], 0.5, 1.0),
        ([], 0.9, 0.0),
    ],
)
def test_the_factor_by_hand(ratios: list[float], delta: float, factor: float) -> None:
    assert conformal_factor(np.array(ratios), delta) == factor


def test_bounds_are_scaled_on_the_other_images_only() -> None:
    distances, estimates = np.full(40, 1.0), np.linspace(0.5, 2.45, 40)
    bounds, certificates = tables(distances, estimates)
    scaled, table = calibrate(bounds, certificates, Calibration(delta=0.2, share=0.5), seed=1)
    calibrating = split(bounds["image_id"].tolist(), 0.5, 1)
    (row,) = table.to_dict("records")
    assert row["calibrating"] == calibrating.sum() == 20
    expected = np.sort(1 / estimates[calibrating])[3]
    assert row["factor"] == expected
    radius = scaled["calibrated_l-bound-l2"].to_numpy()
    assert np.isnan(radius[calibrating]).all()
    np.testing.assert_allclose(radius[~calibrating], estimates[~calibrating] * expected)
    assert (radius[~calibrating] < estimates[~calibrating] * expected).all(), "rounded down"
    assert row["violated_before"] == (estimates[~calibrating] > 1).sum()
    assert row["violated_after"] == (radius[~calibrating] > 1).sum()


def test_what_cannot_be_violated_does_not_count() -> None:
    correct = np.arange(30) >= 10
    estimates = np.where(np.arange(30) < 20, 0.0, 2.0)
    bounds, certificates = tables(np.full(30, 1.0), estimates, correct)
    _, table = calibrate(bounds, certificates, Calibration(), seed=0)
    (row,) = table.to_dict("records")
    assert row["calibrating"] + row["tested"] == 10


def test_unbounded_estimates_and_missing_witnesses() -> None:
    bounds, certificates = tables(np.full(30, np.inf), np.full(30, np.inf))
    scaled, table = calibrate(bounds, certificates, Calibration(), seed=0)
    assert table[["violated_before", "violated_after"]].to_numpy().tolist() == [[0, 0]]
    bounds, certificates = tables(np.full(30, 1.0), np.full(30, np.inf))
    scaled, table = calibrate(bounds, certificates, Calibration(), seed=0)
    assert table["factor"].tolist() == [0.0]
    assert (scaled["calibrated_l-bound-l2"].dropna() == 0).all()


@pytest.mark.parametrize("other", [{"kind": "proof"}, {"kind": "confidence"}, {"subject": "top-5(f)"}])
def test_only_estimates_of_the_model_are_calibrated(other: dict[str, str]) -> None:
    scaled, table = calibrate(*tables(np.full(30, 1.0), np.full(30, 2.0), **other), Calibration(), seed=0)
    assert not len(table)
    assert not [c for c in scaled.columns if c.startswith("calibrated_")]


def test_the_split_depends_on_the_seed_and_the_image_alone() -> None:
    ids = [f"i{k}" for k in range(100)]
    first = split(ids, 0.3, 0)
    assert first.sum() == 30
    assert (split(ids[::-1], 0.3, 0)[::-1] == first).all()
    assert (split(ids, 0.3, 1) != first).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delta": 1.0}, r"x.toml, calibration: .*got 1.0 for 'delta'"),
        ({"detla": 0.1}, r"x.toml, calibration: .*'detla' \(did you mean 'delta'"),
        ([], r"expected a \[calibration\] table in x.toml, got list"),
    ],
)
def test_mistakes_are_named(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_protocol({"certificates": [{"method": "l-bound", "norm": "l2"}], "calibration": given}, "x.toml")
