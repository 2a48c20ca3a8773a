"""The first table of a leaderboard: its ranks, what it says of each budget, as one LaTeX table and in a browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from looking import LOOKS, Look, axe_findings, looked_at, opened
from records import with_model
from robusteval.reports.leaderboard import leaderboard, write_board
from robusteval.reports.leaderboard.paper_table import paper_table
from robusteval.reports.leaderboard.ranking import ranking, ranking_grid
from robusteval.results.run import Run
from run_fixture import EVIL, Fake, FakeCertificate, build_paper_run
from visiting import Visit

N = 40
GOOD = [0.0] * 2 + [0.08] * 18 + [np.inf] * 20
ALIKE = [0.0] * 2 + [0.03] * 3 + [0.08] * 15 + [np.inf] * 20
WEAK = [0.0] * 4 + [0.02] * 20 + [0.07] * 16


def model(path: Path, name: str, distances: Sequence[float], training: str | None = None, attacked: bool = True) -> Run:
    """A finished run of N images, each proven as far as half of the way to its witness, in Linf."""
    far = list(distances)
    run = build_paper_run(
        path / re.sub(r"\W", "_", name),
        "mine",
        [d > 0 for d in far],
        [Fake("pgd-linf", "pgd", "linf", {"linf": far, "l2": [4 * d for d in far]}, budgets=(0.03, 0.05))] * attacked,
        name=name,
        budgets={"linf": [0.03, 0.05]},
        certificates=[FakeCertificate("crown-linf", [min(d / 2, 1.0) for d in far], norm="linf")],
    )
    return with_model(run, fingerprint=hashlib.sha256(name.encode()).hexdigest(), training=training)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("ranked")
    how = "PGD training, budget 8/255, 10 steps"
    return [model(folder, "weak", WEAK, how), model(folder, "alike", ALIKE), model(folder, EVIL, GOOD)]


def test_models_that_the_images_do_not_tell_apart_share_a_rank(runs: list[Run]) -> None:
    found = ranking(leaderboard(runs))
    assert [(row.rank, row.entry.model) for row in found.rows] == [("1=", EVIL), ("1=", "alike"), ("3", "weak")]
    assert "robust accuracy over all budgets" in found.rule
    assert "1 + the number of models that are significantly better" in found.rule
    best = {row.entry.model: [cell.best for cell in row.cells] for row in found.rows}
    at = [f"{group} {title}".strip() for group, title in found.titles].index("All budgets robust, at most")
    assert (best[EVIL][at], best["alike"][at], best["weak"][at]) == (True, True, False)
    assert not best[EVIL][0], "all three are alike on clean images: none is better"


def test_without_attacks_clean_accuracy_ranks(tmp_path: Path) -> None:
    board = leaderboard([model(tmp_path, "a", GOOD, attacked=False), model(tmp_path, "b", WEAK, attacked=False)])
    assert board.ranked_by.key == "clean"
    assert "clean accuracy" in ranking(board).rule


def test_each_budget_has_what_was_found_and_what_was_proven(runs: list[Run]) -> None:
    """Of GOOD the half of 0.08 is above 0.03 and below 0.05; where no witness is, everything is proven."""
    grid = ranking_grid(leaderboard(runs))
    assert grid.headings == [
        *("Rank", "Model", "Clean", "Linf 0.03: robust, at most", "Linf 0.03: certified, at least"),
        *("Linf 0.05: robust, at most", "Linf 0.05: certified, at least", "All budgets: robust, at most"),
        *("Median distance, at most: Linf", "Architecture", "Trained by"),
    ]
    rows = {row[1]: [re.sub(r" \(.*", "", cell) for cell in row[2:]] for row in grid.rows}
    assert rows["alike"][:6] == ["95.0 %", "87.5 %", "87.5 %", "87.5 %", "50.0 %", "87.5 %"]
    assert rows[EVIL][:6] == ["95.0 %", "95.0 %", "95.0 %", "95.0 %", "50.0 %", "95.0 %"]
    assert rows["weak"][:6] == ["90.0 %", "40.0 %", "40.0 %", "40.0 %", "0.0 %", "40.0 %"]
    assert rows["weak"][-2:] == ["digits-cnn", "PGD training, budget 8/255, 10 steps"]


def test_what_is_certified_is_rounded_down_and_an_estimate_certifies_nothing(tmp_path: Path) -> None:
    third = build_paper_run(
        tmp_path,
        "mine",
        [True] * 3,
        [],
        budgets={"l2": [0.5]},
        certificates=[FakeCertificate("lipschitz-l2", [0.6, 0.6, 0.1]), FakeCertificate("l-bound-l2", [9.0] * 3)],
    )
    board = leaderboard([third])
    assert [c.key for c in board.columns if c.key.startswith("certified")] == ["certified_l2_0.5"]
    assert board.entries[0].scores["certified_l2_0.5"].shown == "66.6 %"


def test_the_ranking_is_one_latex_table(runs: list[Run], tmp_path: Path) -> None:
    """Each line has as many cells as there are columns, a heading of several counted as these."""
    board = leaderboard(runs)
    text = paper_table(board)
    write_board(board, tmp_path)
    assert (tmp_path / "leaderboard.tex").read_text() == text
    assert text.count(r"\begin{table") == text.count(r"\begin{tabular}") == 1
    columns = len(re.findall(r"[lrp]", re.sub(r"p\{.*?\}", "p", re.search(r"tabular\}\{@\{\}(.*)@", text)[1])))  # type: ignore[index]
    for line in (x for x in text.splitlines() if x.endswith(r" \\")):
        spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert len(re.findall(r"(?<!\\)&", line)) + 1 + spans == columns, line
    for cell in (cell for row in ranking(board).rows for cell in row.cells):
        for shown in (cell.shown, cell.interval):
            assert shown.replace("%", r"\%") in text
    assert r"\textbf{95.0 \%}" in text
    assert "<script>" not in text


def test_the_page_begins_with_the_ranking_and_sorts(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    visit = Visit(browser, write_board(leaderboard(runs), tmp_path))
    assert visit.tab.locator("#board tbody th").all_text_contents() == [EVIL, "alike", "weak"]
    assert visit.tab.locator("section").first.get_attribute("id") == "ranking"
    heading = visit.tab.locator("#board thead th[data-key='median_linf']")
    heading.click()
    visit.tab.wait_for_function("() => document.querySelector('#board tbody th').textContent === 'weak'")
    heading.click()
    visit.tab.wait_for_function("() => document.querySelector('#board tbody tr:last-child th').textContent === 'weak'")
    assert visit.said == []
    assert not [u for u in visit.asked if not u.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("look", [look for look in LOOKS if look != "print"])
def test_it_is_readable_and_whole(runs: list[Run], tmp_path: Path, browser: Any, look: str) -> None:
    tab = opened(browser, write_board(leaderboard(runs), tmp_path), look)
    assert looked_at(tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    tab.close()


def test_on_a_phone_a_shadow_shows_where_there_is_more(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    visit = Visit(browser, write_board(leaderboard(runs), tmp_path))
    visit.tab.set_viewport_size({"width": 360, "height": 800})
    region = visit.tab.get_by_role("region", name="Ranking; scrolls sideways")
    more = "(e) => [e.dataset.more, getComputedStyle(e).boxShadow, getComputedStyle(e, '::before').content]"
    visit.tab.wait_for_function("() => document.querySelector('.sideways').dataset.more === 'right'")
    _, shadow, hint = region.evaluate(more)
    assert "inset" in shadow
    assert "Scroll sideways" in hint
    # With the keyboard, too; the names stay in view.
    region.focus()
    visit.tab.keyboard.press("End")
    region.evaluate("(e) => { e.scrollLeft = e.scrollWidth }")
    visit.tab.wait_for_function("() => document.querySelector('.sideways').dataset.more === 'left'")
    assert region.locator("tbody th").first.bounding_box()["x"] >= 0


def test_on_paper_the_ranking_is_whole(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    """273 mm wide, a landscape page of A4 within its margins."""
    visit = Visit(browser, write_board(leaderboard(runs), tmp_path))
    visit.tab.set_viewport_size({"width": 1032, "height": 720})
    visit.tab.emulate_media(media="print", color_scheme="dark")
    assert looked_at(visit.tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    assert visit.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = visit.tab.locator("#board thead tr:last-child th").filter(visible=True)
    assert printed.count() == len(ranking_grid(leaderboard(runs)).headings)
    pages = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", visit.tab.pdf(prefer_css_page_size=True))
    assert pages
    assert all(float(width) > float(height) for width, height in pages)


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_serious_fault(runs: list[Run], tmp_path: Path, browser: Any, look: str) -> None:
    tab = opened(browser, write_board(leaderboard(runs), tmp_path), look)
    assert axe_findings(tab) == []
    tab.close()
