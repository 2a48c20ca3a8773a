"""The leaderboard: places by hand and against statsmodels, one set of numbers in every form, and a real browser."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import validate
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from commands import here, in_a_process
from records import with_data, with_model
from robusteval.analysis.leaderboard.ranks import holm, rank, sign_test
from robusteval.core.errors import UserError
from robusteval.reports.leaderboard import Board, leaderboard, read_board, write_board
from robusteval.results.run import Run
from run_fixture import EVIL, Fake, FakeCertificate, build_paper_run

N = 40


def model(path: Path, name: str, distances: Sequence[float], protocol: str = "mine") -> Run:
    """A finished run of N images, each misclassified where its Linf distance is 0."""
    far = list(distances)
    run = build_paper_run(
        path / re.sub(r"\W", "_", name),
        protocol,
        [d > 0 for d in far],
        [Fake("pgd-linf", "pgd", "linf", {"linf": far, "l2": [4 * d for d in far]}, budgets=(0.05, 0.1))],
        name=name,
        budgets={"linf": [0.05, 0.1]},
        certificates=[FakeCertificate("l-bound-l2", [d / 2 if np.isfinite(d) else 1.0 for d in far])],
        measurements=[("gaussian-noise", "noise_area", 0.0, [min(d, 1.0) for d in far])],
    )
    return with_model(run, fingerprint=hashlib.sha256(name.encode()).hexdigest())


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Weak, two strong ones that differ on three images, and one without any failure of distance."""
    weak = [0.0] * 4 + [0.02] * 20 + [0.07] * 16
    strong = [0.0] * 2 + [0.03] * 3 + [0.08] * 15 + [np.inf] * 20
    other = [0.0] * 2 + [0.08] * 3 + [0.08] * 15 + [np.inf] * 20
    return [model(tmp_path, n, d) for n, d in (("weak", weak), ("strong", strong), (EVIL, other))]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_shares_are_compared_by_mcnemars_exact_test(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    counts = [[int((x & y).sum()) for y in (b, ~b)] for x in (a, ~a)]
    assert sign_test(a, b) == pytest.approx(float(mcnemar(counts, exact=True).pvalue))


def test_places_are_ties_until_the_images_tell_models_apart() -> None:
    best, same, worse = np.ones(30), np.r_[np.zeros(3), np.ones(27)], np.r_[np.zeros(20), np.ones(10)]
    first, second, third = rank([best, same, worse])
    assert (first.first, first.last, first.ties) == (1, 2, (1,))
    assert (second.first, second.last, second.ties) == (1, 2, (0,))
    assert (third.first, third.last, third.ties) == (3, 3, ())
    up = rank([best, same, worse], higher_is_better=False)
    assert [p.first for p in up] == [2, 2, 1]


def test_holm_counts_all_pairs() -> None:
    """Six images for one model: p = 2 * 2^-6 is significant alone, not among six pairs."""
    one, none = np.r_[np.ones(6), np.zeros(20)], np.zeros(26)
    assert sign_test(one, none) == pytest.approx(2 * 0.5**6)
    assert rank([one, none])[0].ties == ()
    assert rank([one, none, none, none])[0].ties == (1, 2, 3)


@given(st.lists(st.sampled_from([0.0, 1e-4, 0.005, 0.01, 0.0125, 0.02, 0.05, 0.3, 1.0]), min_size=1, max_size=12))
@settings(max_examples=8)
def test_holm_rejects_what_statsmodels_does(p: list[float]) -> None:
    assert holm(p, 0.05).tolist() == multipletests(p, 0.05, method="holm")[0].tolist()


def test_no_difference_in_a_column_is_false_by_more_than_five_percent() -> None:
    """Two neighbours differ on six images each (p = 0.03), the ends on twelve: a control of the false discovery rate
    would tell all three apart, Holm's of the familywise error only the ends."""
    last = np.zeros(20)
    middle, first = last.copy(), last.copy()
    middle[:6], first[:12] = 1, 1
    a, b, c = rank([first, middle, last])
    assert (a.ties, b.ties, c.ties) == ((1,), (0, 2), (1,))
    assert [(p.first, p.last) for p in (a, b, c)] == [(1, 2), (1, 3), (2, 3)]


def test_the_board_by_hand(runs: list[Run]) -> None:
    board = leaderboard(runs)
    entries = {e.model: e for e in board.entries}
    assert [e.model for e in board.entries] == [EVIL, "strong", "weak"]
    clean, near, far = (entries["weak"].scores[k] for k in ("clean", "robust_linf_0.05", "robust_linf_0.1"))
    assert (clean.value, near.value, far.value) == (0.9, 0.4, 0.0)
    assert entries["strong"].scores["robust_linf_0.1"].value == 0.5
    assert (clean.rank, clean.rank_last) == (1, 3)
    assert clean.ties == (EVIL, "strong")
    assert (far.rank, far.rank_last, far.ties) == (3, 3, ())
    assert entries["strong"].scores["robust_linf_0.1"].ties == (EVIL,)
    assert entries["weak"].scores["worst_case"].value == 0.0
    assert entries["weak"].scores["median_linf"].shown == "0.02000"
    assert entries["strong"].scores["median_linf"].value == np.inf
    assert entries["strong"].scores["mean_linf"].shown in ("0.06450 (20 not found)", "0.06451 (20 not found)")
    radius = (20 * 0.01 + 16 * 0.035) / N
    assert entries["weak"].scores["radius_l-bound-l2"].value == pytest.approx(radius)
    assert entries["weak"].scores["cost"].rank is None
    for entry in board.entries:
        for score in entry.scores.values():
            assert score.low <= score.value <= score.high


def test_accuracy_under_attack_is_rounded_up(tmp_path: Path) -> None:
    """One of three stands: 33.33 %."""
    (entry,) = leaderboard([model(tmp_path, "third", [0.02, 0.07, 0.2])]).entries
    assert entry.scores["robust_linf_0.1"].shown == entry.scores["worst_case"].shown == "33.4 %"


def test_a_model_audited_again_is_taken_from_its_last_run(tmp_path: Path) -> None:
    first, last = (model(tmp_path / name, "same", [far] * N) for name, far in (("a", 0.02), ("b", 0.2)))
    for runs in ([first, last], [last, first]):
        (entry,) = leaderboard(runs).entries
        assert entry.run == str(runs[-1].path)
    (entry,) = leaderboard([last], beside=leaderboard([first])).entries
    assert entry.scores["worst_case"].value == 1.0


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, runs: list[Run]) -> None:
    other = model(tmp_path, "other", [0.1] * N, protocol="theirs")
    with pytest.raises(UserError, match=r"same protocol.*weak.*other.*name"):
        leaderboard([runs[0], other])
    images = model(tmp_path, "images", [0.1] * N)
    images = with_data(images, fingerprint="e" * 64)
    with pytest.raises(UserError, match=r"same images.*weak.*images.*--limit"):
        leaderboard([runs[0], images])
    images = images.updated(status="incomplete")
    with pytest.raises(UserError, match="finished"):
        leaderboard([images])


def test_every_form_holds_the_same_numbers(tmp_path: Path, runs: list[Run]) -> None:
    board = leaderboard(runs)
    page = write_board(board, tmp_path / "board").read_text()
    folder = tmp_path / "board"
    markdown = (folder / "leaderboard.md").read_text()
    data = json.loads((folder / "leaderboard.json").read_text())
    validate(data, json.loads((folder / "leaderboard.schema.json").read_text()))
    rows: list[dict[Any, Any]] = pd.read_csv(folder / "leaderboard.csv").to_dict("records")
    found = {(row["model"], row["quantity"]): row for row in rows}
    for entry, stored in zip(board.entries, data["entries"], strict=True):
        for key, score in entry.scores.items():
            assert f'<span class="value">{score.shown}</span><span class="interval">{score.interval}</span>' in page
            assert re.search(rf"\| +{re.escape(score.shown)} \| +{re.escape(score.interval)} \|", markdown)
            tex = (folder / "tables" / f"{key}.tex").read_text()
            assert f"{score.shown} & {score.interval} &".replace("%", r"\%") in tex
            row = found[entry.model, key]
            assert row["shown"] == score.shown == stored["scores"][key]["shown"]
            assert row["interval"] == score.interval == stored["scores"][key]["interval"]
            assert row["value"] == score.value
            assert stored["scores"][key]["value"] == (None if np.isinf(score.value) else score.value)
    assert EVIL not in page
    assert EVIL not in markdown
    export = json.loads((folder / "robustbench" / "Linf-0.05" / "strong.json").read_text())
    assert (export["clean_acc"], export["reported"], export["eps"]) == ("95.00", "87.50", "0.05")
    assert export["autoattack_acc"] is None


def test_a_board_is_read_back_and_grows(tmp_path: Path, runs: list[Run]) -> None:
    write_board(leaderboard(runs[:2]), tmp_path / "old")
    old = read_board(tmp_path / "old")
    assert old == read_board(tmp_path / "old" / "leaderboard.json") == leaderboard(runs[:2])
    assert leaderboard(runs[2:], beside=old) == leaderboard(runs)
    # A model that is there already is replaced.
    assert leaderboard(runs[:1], beside=old) == old


@pytest.mark.parametrize("text", ["{}", "not json", '{"format": "another"}'])
def test_another_file_is_no_board(tmp_path: Path, text: str) -> None:
    (tmp_path / "leaderboard.json").write_text(text)
    with pytest.raises(UserError, match="expected a leaderboard"):
        read_board(tmp_path)
    with pytest.raises(UserError, match="expected a leaderboard to add to"):
        read_board(tmp_path / "nowhere.json")


def test_the_command(tmp_path: Path, runs: list[Run]) -> None:
    done = in_a_process("leaderboard", runs[0].path, runs[1].path, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "leaderboard.html").exists()
    assert here("leaderboard", runs[2].path, "--add", tmp_path / "a", "--out", tmp_path / "b").returncode == 0
    assert len(read_board(tmp_path / "b").entries) == 3
    wrong = here("leaderboard", tmp_path / "a")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "Traceback" not in wrong.stderr


def test_boards_are_data(runs: list[Run]) -> None:
    board = leaderboard(runs)
    assert Board.model_validate_json(board.model_dump_json()) == board


def test_a_board_names_the_field_that_is_wrong(tmp_path: Path, runs: list[Run]) -> None:
    """The protocol is typed: a budget that is no number is no budget."""
    write_board(leaderboard(runs), tmp_path)
    path = tmp_path / "leaderboard.json"
    data = json.loads(path.read_text())
    assert data["protocol"]["budgets"] == {"linf": [0.05, 0.1]}
    data["protocol"]["budgets"]["linf"] = ["wide"]
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"got 'wide' for 'protocol\.budgets\.linf\.0'; make it again from its runs$"):
        read_board(path)


def test_percentages_for_robustbench_are_rounded_from_the_share(tmp_path: Path) -> None:
    """7 of 100 images stand: 7 %, though 0.07 * 100 is above 7 in binary."""
    run = build_paper_run(
        tmp_path / "run",
        "mine",
        [True] * 100,
        [Fake("pgd-linf", "pgd", "linf", {"linf": [0.2] * 7 + [0.01] * 93}, budgets=(0.05,))],
        budgets={"linf": [0.05]},
    )
    write_board(leaderboard([run]), tmp_path / "board")
    (path,) = (tmp_path / "board" / "robustbench" / "Linf-0.05").glob("*.json")
    assert json.loads(path.read_text())["reported"] == "7.00"


def foreign(folder: Path, runs: list[Run], change: Callable[[dict[str, Any]], object]) -> Path:
    """A board of other models with something changed in it."""
    board = json.loads(leaderboard(runs[:1]).model_dump_json())
    board["entries"][0] |= {"fingerprint": "f" * 64, "model": "other"}
    change(board)
    (folder / "foreign.json").write_text(json.dumps(board))
    return folder / "foreign.json"


@pytest.mark.parametrize("change", ["scores", "clean", "entries", "accuracy", "budget"])
def test_a_foreign_board_without_what_places_need_is_refused(tmp_path: Path, runs: list[Run], change: str) -> None:
    transfer = {"attack": "a", "norm": "linf", "budget": 0.1, "source": "s", "accuracy": 0.5}
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "scores": lambda b: b["entries"][0].update(scores={}),
        "clean": lambda b: b["entries"][0]["scores"].pop("clean"),
        "entries": lambda b: b.update(entries=[]),
        "accuracy": lambda b: b["entries"][0].update(transfer=[transfer | {"accuracy": math.inf}]),
        "budget": lambda b: b["entries"][0].update(transfer=[transfer | {"budget": math.nan}]),
    }
    path = foreign(tmp_path, runs, changes[change])
    with pytest.raises(UserError, match=r"foreign\.json, got another file: expected .*entries"):
        read_board(path)


def test_a_foreign_board_of_fewer_images_is_not_compared(tmp_path: Path, runs: list[Run]) -> None:
    path = foreign(tmp_path, runs, lambda b: b["entries"][0]["scores"]["clean"].update(images=[0.0]))
    with pytest.raises(UserError, match=r"expected 'clean' of as many images of each model \(40\), got 1 of one"):
        leaderboard(runs[:1], beside=read_board(path))


def test_a_board_names_a_text_that_is_too_long_to_draw(tmp_path: Path, runs: list[Run]) -> None:
    path = foreign(tmp_path, runs, lambda b: b["entries"][0].update(model="A" * 10_000))
    with pytest.raises(
        UserError, match=r"expected at most 1,000 characters in 'A+\.\.\.' of .*foreign\.json, got 10,000"
    ):
        read_board(path)


def test_file_names_for_robustbench_are_plain_and_of_one_model_each(tmp_path: Path, runs: list[Run]) -> None:
    board = leaderboard(runs[1:])
    entries = [e.model_copy(update={"model": name}) for e, name in zip(board.entries, ("a/b", "A b"), strict=True)]
    long = entries[0].model_copy(update={"model": "n" * 999, "fingerprint": "f" * 64})
    write_board(board.model_copy(update={"entries": (*entries, long)}), tmp_path)
    names = sorted(p.name for p in (tmp_path / "robustbench" / "Linf-0.05").iterdir())
    assert names == sorted(
        [f"a_b-{entries[0].fingerprint[:8]}.json", f"A_b-{entries[1].fingerprint[:8]}.json", f"{'n' * 100}.json"]
    )


def test_what_turns_the_direction_of_writing_is_escaped_in_its_json(tmp_path: Path, runs: list[Run]) -> None:
    board = leaderboard(runs[:1])
    entry = board.entries[0].model_copy(update={"model": "a\u202eb\u0085\U0001f600"})
    board = board.model_copy(update={"entries": (entry,)})
    write_board(board, tmp_path)
    assert (tmp_path / "leaderboard.json").read_bytes().isascii()
    assert read_board(tmp_path) == board
