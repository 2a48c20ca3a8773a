"""One rule for showing shares: at most rounds up, at least rounds down, what is neither goes to the nearest digit."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from records import with_changes
from robusteval.analysis.certification import covered
from robusteval.analysis.headline import headline
from robusteval.analysis.leaderboard.scores import standard_autoattack
from robusteval.analysis.results import Results
from robusteval.analysis.show import Round, percentage
from robusteval.analysis.summary import summarise
from robusteval.attacks import ATTACKS
from robusteval.attacks.external.autoattack import AutoAttack
from robusteval.core.norms import Norm
from robusteval.reports.certification.tables import share_grid
from robusteval.reports.leaderboard import leaderboard, write_board
from robusteval.reports.sections.attack_tables import attack_grids
from robusteval.reports.sections.verdict import verdict
from robusteval.results.run import Run
from run_fixture import Fake, FakeCertificate, build_paper_run


def run_of(folder: Path, fooled: int, n: int, *, method: str = "pgd", right: int | None = None) -> Run:
    """n images, the first `right` of them classified correctly; one attack that fools `fooled` of these."""
    correct = [i < (n if right is None else right) for i in range(n)]
    far = [0.01] * fooled + [np.inf] * (sum(correct) - fooled)
    far += [0.0] * (n - len(far))
    attack = Fake(f"{method}-linf", method, "linf", {"linf": far}, budgets=(0.05,))
    bound = FakeCertificate("l-bound-linf", [0.0] * fooled + [0.06] * (n - fooled), "linf")
    return build_paper_run(folder, "mine", correct, [attack], budgets={"linf": [0.05]}, certificates=[bound])


def test_percentages_of_every_share_are_exact() -> None:
    """k of n for n up to 130, against fractions."""
    for n in range(1, 131):
        for k in range(n + 1):
            exact = Fraction(100 * k, n)
            for rounding, up in ((Round.DOWN, ROUND_FLOOR), (Round.UP, ROUND_CEILING)):
                for decimals in (1, 2):
                    scaled = exact * 10**decimals
                    whole = scaled.__floor__() if up == ROUND_FLOOR else scaled.__ceil__()
                    expected = Decimal(whole).scaleb(-decimals)
                    assert Decimal(percentage(k / n, decimals, rounding)) == expected, (k, n)


def test_29_of_30_is_the_same_wherever_it_is_shown(tmp_path: Path) -> None:
    """Fooled: at least. What is left of the accuracy: at most; together they are all images."""
    run = run_of(tmp_path / "fooled", 29, 30)
    summary = summarise(run)
    (grid,) = attack_grids(summary)
    assert grid.rows[0][1] == "96.6 %"
    lines = {line.quantity: line.shown for line in headline(run)}
    assert lines["Robust accuracy, at most"] == "3.4 %"
    assert "At Linf 0.05, at most 3.4 % of the images stay right: 96.6 % broken, 3.4 % open;" in verdict(summary)
    clean = run_of(tmp_path / "clean", 0, 30, right=29)
    assert {line.quantity: line.shown for line in headline(clean)}["Clean accuracy"] == "96.7 %"
    assert "classifies 96.7 % of" in verdict(summarise(clean))
    bounded = run_of(tmp_path / "bounded", 1, 30)
    shown = {line.shown for line in headline(bounded) if line.quantity.startswith("Estimated accuracy")}
    assert shown == {row[4] for row in share_grid(covered(Results(bounded))).rows} == {"96.6 %"}


def exported(run: Run, folder: Path) -> dict[str, object]:
    write_board(leaderboard([run]), folder)
    (path,) = (folder / "robustbench" / "Linf-0.05").glob("*.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(("fooled", "shown"), [(43, "14.00"), (50, "0.00"), (17, "66.00"), (0, "100.00")])
def test_autoattack_acc_is_of_the_standard_autoattack(fooled: int, shown: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", fooled, 50, method="autoattack")
    run = with_changes(run, "autoattack-linf", ranks_on_robustbench=True)
    found = exported(run, tmp_path / "board")
    assert (found["autoattack_acc"], found["reported"], found["clean_acc"]) == (shown, shown, "100.00")


def test_without_it_the_field_is_empty(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 43, 50)
    found = exported(run, tmp_path / "board")
    assert (found["autoattack_acc"], found["reported"]) == (None, "14.00")
    gone = with_changes(
        run_of(tmp_path / "gone", 43, 50, method="autoattack"), "autoattack-linf", ranks_on_robustbench=True
    )
    gone = with_changes(gone, "autoattack-linf", status="unavailable", reason="three classes")
    assert standard_autoattack(Results(gone)) == {}


def test_only_the_published_settings_are_the_standard_autoattack() -> None:
    assert [n for n in ATTACKS if ATTACKS[n].model_fields["norm"].is_required() and n != "lrc" and _ranks(n)] == [
        "autoattack"
    ]
    assert not AutoAttack(norm=Norm.LINF, iterations=20).ranks_on_robustbench
    assert not AutoAttack(norm=Norm.LINF, queries=100).ranks_on_robustbench
    assert not AutoAttack(norm=Norm.LINF, version="rand").ranks_on_robustbench
    assert not AutoAttack(norm=Norm.LINF, search_dtype="bfloat16").ranks_on_robustbench
    assert not AutoAttack(norm=Norm.LINF, minimum_distance=True).ranks_on_robustbench


def _ranks(name: str) -> bool:
    return ATTACKS[name](norm=ATTACKS[name].norms[-1]).ranks_on_robustbench
