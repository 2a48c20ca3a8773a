"""A paper's tables over several models: what the rows are called, and the same cells in every form."""

from __future__ import annotations

import csv
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from forms import in_latex, in_markdown
from paper_tables import CORRECT, INF, tables

from commands import here
from records import with_data, with_model
from robusteval.core.errors import UserError
from robusteval.reports import paper_tables
from robusteval.reports.leaderboard import earlier_runs, leaderboard, read_board, write_board
from robusteval.reports.papers import PAPERS
from robusteval.reports.papers.write import write_paper_tables
from robusteval.results.manifest import ModelRecord
from robusteval.results.run import Run
from run_fixture import EVIL, Fake, build_paper_run
from visiting import Visit

GRID = (4 / 255, 8 / 255)
TRAININGS = {"plain": "Standard training", "first": "SGR, lambda 3", "second": "SGR, lambda 3", "bare": None}
"""Of each model, what its card says; two are of one training, one has no card."""


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def record(run: Run, name: str, training: str | None) -> ModelRecord:
    changes = {"name": name, "fingerprint": sha(name), "training": training}
    return run.manifest.model.model_copy(update=changes)


def model(
    path: Path, name: str, sources: Mapping[str, str | None], training: str | None = None, protocol: str = "sgr-2019"
) -> Run:
    far = {"linf": [4 / 255, 8 / 255, INF, 0.0], "l2": [1.0, 1.0, 2.0, 0.0]}
    made = [Fake(f"transfer-from-{s}", "transfer", "linf", {"linf": far["linf"]}, GRID) for s in sources]
    attacks = [Fake("pgd", "pgd", "linf", far, GRID), *made]
    run = build_paper_run(path / name, protocol, CORRECT, attacks, name=name)
    given = tuple(record(run, source, how) for source, how in sources.items())
    return with_model(run.updated(sources=given), fingerprint=sha(name), training=training, training_seconds=18.0)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Each attacked from all others, and the plain one from a twin of its own too."""
    found = []
    for name, training in TRAININGS.items():
        others = {other: how for other, how in TRAININGS.items() if other != name}
        others |= {"twin": "Standard training"} if name == "plain" else {}
        found.append(model(tmp_path, name, others, training))
    return found


ROWS = ["Standard training (plain)", "SGR, lambda 3 (first)", "SGR, lambda 3 (second)", "bare"]


def test_rows_and_sources_are_called_by_their_training(runs: list[Run]) -> None:
    table = tables(*runs)["table-1-8"]
    assert [row[0] for row in table.rows] == ROWS
    sources = [f"from {name}" for name in (*ROWS, "Standard training (twin)")]
    assert table.headings == ["Train. M.", "TEST", "RAND", "PGD", "T-PGD", *sources, "FOOL"]
    for i, row in enumerate(table.rows):
        columns = dict(zip(table.headings, row, strict=True))
        assert columns[sources[i]] == "-", "no model is its own source"
        assert [columns[s] != "-" for s in sources[:4]] == [j != i for j in range(4)]
        assert (columns[sources[4]] != "-") == (i == 0)


def test_a_training_that_is_there_once_needs_no_name_beside_it(runs: list[Run]) -> None:
    plain = runs[0].updated(sources=())
    assert [row[0] for row in tables(plain, *runs[1:2])["figure-4"].rows] == ["Standard training", ROWS[1]]
    alone = [run.updated(sources=()) for run in runs[:2]]
    assert [row[0] for row in tables(*alone)["figure-4"].rows] == ["Standard training", "SGR, lambda 3"]


def test_models_of_one_name_are_told_apart_by_their_weights(tmp_path: Path) -> None:
    """The same file name in two folders, with a card and without."""
    for training, said in (("Weight decay", "Weight decay (same)"), (None, "same")):
        made = {k: model(tmp_path / f"{training}-{k}", "same", {}, training) for k in ("a", "b")}
        pair = [with_model(run, fingerprint=sha(k)) for k, run in made.items()]
        assert [row[0] for row in tables(*pair)["figure-4"].rows] == [f"{said} ({sha(k)[:8]})" for k in ("a", "b")]


def test_the_training_time_is_the_cards(tmp_path: Path) -> None:
    timed = model(tmp_path, "timed", {}, "Free training", "gradreg-2020")
    bare = with_model(model(tmp_path, "bare", {}, None, "gradreg-2020"), training_seconds=None)
    found = tables(timed, bare)
    for name in ("table-1", "table-2"):
        at = found[name].headings.index("training time (hours)")
        assert [(row[0], row[at]) for row in found[name].rows] == [("Free training", "0.005"), ("bare", "-")]


def in_page(page: str) -> dict[str, list[list[str]]]:
    """The tables of the page by the id of their section; a first cell over several rows stands in each of them."""
    found = {}
    for section in page.split("<section ")[1:]:
        table = re.search(r'^id="([^"]*)"><h2>.*?<table class="grid">(.*?)</table>', section, re.DOTALL)
        key, body = table.groups() if table else ("", "")
        rows: list[list[str]] = []
        left, name = 0, ""
        for text in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL):
            cells = [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", text, re.DOTALL)]
            if left:
                cells, left = [name, *cells], left - 1
            elif span := re.search(r'rowspan="(\d+)"', text):
                left, name = int(span[1]) - 1, cells[0]
            rows.append(cells)
        found[key] = rows
    return found


@pytest.mark.parametrize("protocol", PAPERS)
def test_every_form_has_the_same_cells(tmp_path: Path, protocol: str) -> None:
    names = {"one": f"A & B {EVIL}", "two": "50 % | _x_"}
    runs = [model(tmp_path, name, {}, training, protocol) for name, training in names.items()]
    pages = write_paper_tables(runs, tmp_path / "out")
    assert pages == {PAPERS[protocol][0]: tmp_path / "out" / f"paper-{protocol}.html"}
    (page,) = pages.values()
    text, marked, tex = page.read_text(), page.with_suffix(".md").read_text(), page.with_suffix(".tex").read_text()
    shown, spoken, typeset = in_page(text), in_markdown(marked), in_latex(tex)
    assert EVIL not in text + marked
    grids = paper_tables(runs)
    for grid in grids:
        cells = [grid.headings, *grid.rows]
        plain = [[" ".join(cell.split()) for cell in row] for row in cells]
        if grid.rows:
            assert shown[grid.key] == cells
        assert spoken[grid.title] == plain
        assert typeset[grid.title] == plain
        base = tmp_path / "out" / "tables" / f"paper-{protocol}-{grid.key}.csv"
        assert list(csv.reader(base.open())) == cells
        assert in_latex(base.with_suffix(".tex").read_text()) == {grid.title: plain}
    assert [row[:2] for row in shown["models"][1:]] == [[training, name] for name, training in names.items()]
    assert [row[3] for row in shown["models"][1:]] == ["18.0 s", "18.0 s"]


def test_runs_of_other_images_are_refused_and_other_protocols_write_nothing(tmp_path: Path, runs: list[Run]) -> None:
    other = with_data(runs[1], fingerprint="e" * 64)
    with pytest.raises(UserError, match=r"same images.*plain.*first.*--limit"):
        write_paper_tables([runs[0], other], tmp_path / "out")
    assert write_paper_tables([model(tmp_path, "quick", {}, protocol="quick")], tmp_path / "out") == {}
    assert not (tmp_path / "out").exists()


def test_a_leaderboard_of_a_papers_protocol_has_its_tables(tmp_path: Path, runs: list[Run]) -> None:
    done = here("leaderboard", runs[0].path, runs[1].path, "--out", tmp_path / "board")
    assert done.returncode == 0, done.stderr
    page = tmp_path / "board" / "paper-sgr-2019.html"
    assert f"Tables of SGR (2019): {page}" in done.stdout
    done = here("leaderboard", runs[2].path, "--add", tmp_path / "board", "--out", tmp_path / "board")
    assert done.returncode == 0, done.stderr
    assert sorted(row[0] for row in in_page(page.read_text())["table-1-8"][1:]) == sorted(ROWS[:3])


def test_a_folder_of_runs_stands_for_them(tmp_path: Path, runs: list[Run]) -> None:
    (folder,) = {run.path.parent for run in runs}
    (folder / "transfer.csv").write_text("")
    done = here("leaderboard", folder, "--out", tmp_path / "board")
    assert done.returncode == 0, done.stderr
    assert len(read_board(tmp_path / "board").entries) == len(runs)
    done = here("leaderboard", folder / "transfer.csv", "--out", tmp_path / "board")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"transfer.csv; give {folder}" in done.stderr


def test_a_board_whose_runs_are_gone_says_so(tmp_path: Path, runs: list[Run]) -> None:
    write_board(leaderboard(runs[:3]), tmp_path / "board")
    board = read_board(tmp_path / "board")
    (runs[0].path / "manifest.json").unlink()
    with_model(runs[1], fingerprint="0" * 64).write_manifest()
    found, gone = earlier_runs(board, runs[3:])
    assert [run.path for run in found] == [runs[2].path]
    assert sorted(gone) == sorted(str(run.path) for run in runs[:2])
    assert earlier_runs(board, runs[:3]) == ([], [])
    done = here("leaderboard", runs[3].path, "--add", tmp_path / "board", "--out", tmp_path / "grown")
    assert done.returncode == 0
    assert f"{runs[0].path}" in done.stderr


def test_the_page_in_a_browser(tmp_path: Path, runs: list[Run], browser: Any) -> None:
    (page,) = write_paper_tables(runs, tmp_path / "out").values()
    visit = Visit(browser, page)
    assert visit.tab.locator("#table-1-8 tbody td.name").all_text_contents() == ROWS
    for width in (1280, 390):
        visit.tab.set_viewport_size({"width": width, "height": 844})
        assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
    visit.tab.set_viewport_size({"width": 680, "height": 1000})
    visit.tab.emulate_media(media="print", color_scheme="dark")
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 680
    assert visit.said == []
    assert not [u for u in visit.asked if not u.startswith(("file:", "data:", "blob:"))]
