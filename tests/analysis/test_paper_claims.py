"""The verdicts on the papers' claims (benchmarks/papers/claims.py): intervals as scipy has them, verdicts both ways."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy import stats

from commands import ROOT


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "papers"))
    return import_module("claims")


def test_over_seeds_alone_the_interval_is_students(claims: Any) -> None:
    values = np.array([0.1, 0.4, 0.25, 0.3])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = claims.interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_where_seeds_agree_the_interval_is_over_images(claims: Any) -> None:
    image = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    found = claims.interval(np.stack([image, image]))
    half = stats.norm.ppf(0.975) * image.std(ddof=1) / np.sqrt(5)
    assert (found.value, found.high - found.value) == pytest.approx((0.6, half))


def test_one_seed_tells_nothing(claims: Any) -> None:
    assert claims.above([1.0], [0.0])[1] == claims.OPEN


def test_the_sign_of_a_clear_difference_decides(claims: Any) -> None:
    low, high = np.array([0.1, 0.11, 0.12]), np.array([0.5, 0.51, 0.53])
    assert claims.above(high, low)[1] == claims.REPRODUCED
    assert claims.above(low, high)[1] == claims.CONTRADICTED
    assert claims.above(low, low[::-1])[1] == claims.OPEN


def test_alike_means_within_the_margin(claims: Any) -> None:
    a = np.array([0.5, 0.501, 0.499])
    assert claims.alike(a, a + 0.005, 0.02)[1] == claims.REPRODUCED
    assert claims.alike(a, a + 0.1, 0.02)[1] == claims.CONTRADICTED
    assert claims.alike(a, a + np.array([0.01, 0.03, -0.01]), 0.02)[1] == claims.OPEN


def test_a_claim_of_parts_stands_only_with_all_of_them(claims: Any) -> None:
    yes, perhaps, no = claims.REPRODUCED, claims.OPEN, claims.CONTRADICTED
    assert claims.together([yes, yes]) == yes
    assert claims.together([yes, perhaps]) == perhaps
    assert claims.together([yes, perhaps, no]) == no
