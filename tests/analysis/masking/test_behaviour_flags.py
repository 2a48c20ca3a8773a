"""Flags of what an audit stumbled over, from tables alone: just beyond what raises them, and just below."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest
from masking_cases import IDS, NAN, N, a_run, attack

from records import with_changes
from robusteval.analysis.masking import Flag, checked, flags
from robusteval.results.files import write_frame
from robusteval.results.records import REPEAT, SANITY, SanityRecord
from robusteval.results.run import Run
from robusteval.results.tables import MEASUREMENTS_TABLE, STATISTICS_TABLE

Values = dict[tuple[str, str], list[float]]
BEHAVED: dict[str, tuple[str | None, Values, dict[str, float]]] = {
    "nothing": (None, {}, {}),
    "random": ("random-outputs", {(SANITY, "change_again"): [0.5] * N}, {"random": 1}),
    "drifted": ("random-outputs", {(REPEAT, "change_since"): [0.0] * 99 + [2e-4]}, {}),
    "hardly drifted": (None, {(REPEAT, "change_since"): [0.9e-4] * N}, {}),
    "computed otherwise": (
        "differing-repetition",
        {(REPEAT, "change_since"): [0.0] * N, (REPEAT, "differs:pgd-linf"): [0.02] * N},
        {},
    ),
    "random, and otherwise": (
        "random-outputs",
        {(SANITY, "change_again"): [0.5] * N, (REPEAT, "differs:pgd-linf"): [1.0] * N},
        {"random": 1},
    ),
    "batch": ("batch-dependent-outputs", {(SANITY, "change_alone"): [0.2] * N}, {"batch_dependent": 1, "single": 1}),
    "one unanswered": ("non-finite-outputs", {("pgd-linf", "non_finite"): [0.0] * 99 + [1.0]}, {}),
    "gradients": (
        "non-finite-gradients",
        {(SANITY, "gradient_size"): [float("inf")] * 5 + [1.0] * 95, (SANITY, "gradient_size_margin"): [1.0] * N},
        {},
    ),
    "gradients on the way": (
        "non-finite-gradients",
        {("pgd-linf", "non_finite_gradients"): [3.0] * 5 + [0.0] * 95},
        {},
    ),
    "few gradients": (None, {("pgd-linf", "non_finite_gradients"): [3.0] * 3 + [0.0] * 97}, {}),
    "random gradients": (
        "random-gradients",
        {
            (SANITY, "gradient_size"): [1.0] * N,
            (SANITY, "gradient_size_margin"): [1.0] * N,
            (SANITY, "gradient_change"): [0.5] * 5 + [0.0] * 95,
        },
        {},
    ),
    "no gradients": (
        "unavailable-gradients",
        {(SANITY, "gradient_size"): [NAN] * N, (SANITY, "gradient_size_margin"): [NAN] * N},
        {},
    ),
    "zero of both": (
        "unavailable-gradients",
        {(SANITY, "gradient_size"): [0.0] * N, (SANITY, "gradient_size_margin"): [0.0] * N},
        {},
    ),
    "zero of one": (
        "vanishing-gradients",
        {(SANITY, "gradient_size"): [0.0] * N, (SANITY, "gradient_size_margin"): [1.0] * N},
        {},
    ),
}


def a_run_of(path: Path, values: Values, decided: dict[str, float]) -> Run:
    frames = [
        MEASUREMENTS_TABLE.frame({"image_id": IDS, "method": method, "quantity": quantity, "at": 0.0, "value": own})
        for (method, quantity), own in values.items()
    ]
    rows = pd.concat(frames, ignore_index=True) if frames else MEASUREMENTS_TABLE.frame()
    # PGD fools all: nothing else is odd.
    entry, witnesses = attack("pgd", {0.1: N})
    stages = [SanityRecord(name=name, title=name, status="done") for name in (SANITY, REPEAT)]
    run = a_run(path, tuple(IDS), True, rows, [*stages, entry])
    statistics = {"method": SANITY, "quantity": list(decided), "at": 0.0, "value": list(decided.values())}
    write_frame(path / "tables" / "statistics.parquet", STATISTICS_TABLE.frame(statistics if decided else None))
    write_frame(path / "tables" / "witnesses.parquet", witnesses)
    return run


@pytest.mark.parametrize("case", BEHAVED)
def test_what_an_audit_stumbled_over(case: str, tmp_path: Path) -> None:
    expected, values, decided = BEHAVED[case]
    (found, *others) = [*flags(a_run_of(tmp_path, values, decided)), None]
    assert (found and found.name) == expected
    assert others in ([], [None])


def test_how_many_images_got_no_answer(tmp_path: Path) -> None:
    (found,) = flags(a_run_of(tmp_path, {("pgd-linf", "non_finite"): [2.0] * 7 + [0.0] * 93}, {}))
    assert "The model gives no finite answer to 7 of 100 attacked images" in found.evidence


def test_what_came_out_differently_is_named(tmp_path: Path) -> None:
    change = {(REPEAT, "differs:pgd-linf"): [0.02] * 41 + [0.25] + [0.02] * 58}
    (found,) = flags(a_run_of(tmp_path, change, {}))
    said = (
        f"PGD, Linf, computed twice, gives other rows to 100 images, most of all to {IDS[41]}, where a value changes by"
    )
    assert found.evidence == f"{said} 25.0 %."


def test_methods_that_failed_are_grouped_by_their_error(tmp_path: Path) -> None:
    run = a_run_of(tmp_path, {}, {})
    run = with_changes(run, "pgd-linf", status="failed", reason="ValueError: a bug")
    found: list[Flag] = flags(run)
    assert [f.name for f in found] == ["failed-methods"]
    assert found[0].evidence == "ValueError: a bug, in PGD, Linf."


def test_masking_was_looked_for_only_where_something_could_tell(tmp_path: Path) -> None:
    run = a_run_of(tmp_path, {}, {})
    assert not checked(run), "PGD alone"
    for other, looked in (("square", True), ("transfer", True), ("auto", False), ("fgsm", False)):
        more, _ = attack(other, {0.1: 5}, name="other")
        assert checked(run.updated(stages=(*run.manifest.stages, more))) is looked, other
    elsewhere, _ = attack("square", {0.2: 5}, name="other")
    assert not checked(run.updated(stages=(*run.manifest.stages, elsewhere))), "at another budget"


def test_a_model_that_is_always_wrong_raises_nothing_for_attacks_that_had_no_image(tmp_path: Path) -> None:
    run = a_run(tmp_path, tuple(IDS), False, MEASUREMENTS_TABLE.frame(), [attack("pgd", {0.1: 0})[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flags(run) == []
