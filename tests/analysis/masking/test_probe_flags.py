"""Flags that follow from the measurements: each has a case just beyond its threshold and one just below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from masking_cases import FOUGHT, IDS, LINF, N, a_run, metric_stage, table
from test_behaviour_flags import BEHAVED

from robusteval.analysis.masking import flags
from robusteval.analysis.masking import signs as masking
from robusteval.metrics.base import Measurement
from robusteval.metrics.gradient_masking import GradientMasking
from robusteval.results.tables import MEASUREMENTS_TABLE


def share(count: int) -> np.ndarray:
    """1.0 for the first `count` of the N images."""
    return (np.arange(N) < count).astype(float)


HEALTHY: dict[tuple[str, float], object] = {
    ("probabilities", 0): 0.0,
    ("gradient_size", 0): 1e-3,
    ("gradient_size_margin", 0): 1.0,
    ("zero_gradient_entries", 0): 0.1,
    ("loss_variation", 4 / 255): 0.02,
    ("output_spread", 5): 1e-7,
    ("fooled_without_gradients", 0.1): share(20),
    ("fooled", 0.05): share(15),
    ("fooled", 0.1): share(40),
    ("fooled", 0.2): share(80),
    ("fooled", np.inf): 1.0,
    ("fooled_more_steps", 160): share(41),
    ("fooled_restarts", 3): share(41),
    ("silent_success", 0.1): share(1),
    ("transfer_failure", 0.1): 0.0,
    ("late_progress", 40): 0.01,
    ("best_step", 40): 39.0,
    ("falling_steps", 40): 0.0,
}


Values = dict[tuple[str, float], object]


BOUNDED = [key for key in HEALTHY if key[0].startswith("fooled") and np.isfinite(key[1])]


# With 95 % confidence, 5 of 100 are more than 1 %, and 3 are not; 6 are more than 2 %, and 5 are not.
CASES: dict[str, tuple[str | None, Values]] = {
    "none": (None, {}),
    "differs": ("random-outputs", {("output_spread", 5): 1e-3 * share(5)}),
    "differs, rarely": (None, {("output_spread", 5): 1e-3 * share(3)}),
    "differs by rounding": (None, {("output_spread", 5): 0.9e-4}),
    "outputs not a number": ("random-outputs", {("output_spread", 5): np.nan}),
    "probabilities": ("probability-outputs", {("probabilities", 0): 1.0}),
    "probabilities of some": (None, {("probabilities", 0): share(99)}),
    "unstable": ("unstable-predictions", {("loss_variation", 4 / 255): 0.11}),
    "unstable by half": (None, {("loss_variation", 4 / 255): share(50)}),
    "stable": (None, {("loss_variation", 4 / 255): 0.09}),
    "no gradient": ("unavailable-gradients", {("gradient_size", 0): np.nan, ("gradient_size_margin", 0): np.nan}),
    "zero": (
        "unavailable-gradients",
        {("gradient_size", 0): 1 - share(5), ("gradient_size_margin", 0): 1 - share(5)},
    ),
    "zero, rarely": (None, {("gradient_size", 0): 1 - share(3), ("gradient_size_margin", 0): 1 - share(3)}),
    "zero in one loss": ("vanishing-gradients", {("gradient_size", 0): 1 - share(5)}),
    "vanishing": ("vanishing-gradients", {("gradient_size", 0): 1e-31}),
    "small": (None, {("gradient_size", 0): 1e-29}),
    "infinite": ("vanishing-gradients", {("gradient_size", 0): np.where(share(5), np.inf, 1.0)}),
    "without gradients": ("gradient-free-wins", {("fooled_without_gradients", 0.1): share(49)}),
    "without gradients, by chance": (None, {("fooled_without_gradients", 0.1): share(48)}),
    "falling error": ("error-stalls", {("fooled", 0.05): share(88)}),
    "falling error, by chance": (None, {("fooled", 0.05): share(87)}),
    "stalling error": ("error-stalls", {("fooled", 0.05): share(40), ("fooled", 0.2): share(41)}),
    "growing error": (None, {("fooled", 0.05): share(40), ("fooled", 0.2): share(44)}),
    "nothing falls": (None, dict.fromkeys(BOUNDED, 0.0)),
    "everything falls": (None, {("fooled", b): 1.0 for b in (0.05, 0.1, 0.2)}),
    "more steps": ("more-finds-more", {("fooled_more_steps", 160): share(46)}),
    "more restarts": ("more-finds-more", {("fooled_restarts", 3): share(46)}),
    "a few more": (None, {("fooled_restarts", 3): share(45)}),
    "silent": ("silent-success", {("silent_success", 0.1): share(5)}),
    "silent, rarely": (None, {("silent_success", 0.1): share(3)}),
    "not transferred": ("transfer-failure", {("transfer_failure", 0.1): share(5)}),
    "not transferred, rarely": (None, {("transfer_failure", 0.1): share(3)}),
    "rising": ("incomplete-optimisation", {("late_progress", 40): 0.06}),
    "risen": (None, {("late_progress", 40): 0.04}),
    "rising where it has won": (None, {("late_progress", 40): 0.06 * share(40)}),
    "confined": ("unconstrained-attack-failure", {("fooled", np.inf): share(95)}),
    "confined, rarely": (None, {("fooled", np.inf): share(97)}),
}  # fmt: skip


def measured(changes: Values, metric: GradientMasking) -> pd.DataFrame:
    found = [
        Measurement(quantity, at, torch.tensor(np.broadcast_to(values, N).copy()))  # type: ignore[call-overload]
        for (quantity, at), values in (HEALTHY | changes).items()
    ]
    return table(metric, found, tuple(IDS))


@pytest.mark.parametrize("case", CASES)
def test_a_flag_is_raised_beyond_its_threshold_only(case: str, tmp_path: Path) -> None:
    expected, changes = CASES[case]
    run = a_run(tmp_path, tuple(IDS), True, measured(changes, LINF), [metric_stage(LINF)])
    found = flags(run)
    assert [f.name for f in found] == ([expected] if expected else [])
    if found:
        sign = masking.SIGNS[found[0].name]
        assert (found[0].title, found[0].severity) == (sign.title, sign.severity)
        assert "100 images" in found[0].evidence


def test_every_flag_has_a_case() -> None:
    cases = {expected for expected, _ in [*CASES.values(), *((c[0], c[1:]) for c in FOUGHT.values())] if expected}
    assert cases | {expected for expected, *_ in BEHAVED.values()} | {"failed-methods"} >= set(masking.SIGNS)


def test_serious_flags_come_first_and_misclassified_images_do_not_count(tmp_path: Path) -> None:
    changes = CASES["rising"][1] | CASES["silent"][1] | CASES["confined"][1]
    rows = measured(changes, LINF)
    run = a_run(tmp_path, tuple(IDS), True, rows, [metric_stage(LINF)])
    assert [f.severity for f in flags(run)] == ["serious", "warning", "warning"]
    wrong = np.array([i < 10 or i >= 90 for i in range(N)])
    run = a_run(tmp_path, tuple(IDS), ~wrong, rows, [metric_stage(LINF)])
    assert [f.name for f in flags(run)] == ["incomplete-optimisation"]
    assert "80 images" in flags(run)[0].evidence
    run = a_run(tmp_path, tuple(IDS), False, rows, [metric_stage(LINF)])
    assert flags(run) == []


def test_a_metric_that_did_not_run_raises_nothing(tmp_path: Path) -> None:
    stage = metric_stage(LINF).model_copy(update={"status": "unavailable"})
    assert flags(a_run(tmp_path, tuple(IDS), True, MEASUREMENTS_TABLE.frame(), [stage])) == []
