"""Pages of runs of many images: as large as those of fewer, and made in little more memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repeated import repeated
from robusteval.analysis.curves import STEPS
from robusteval.analysis.leaderboard import packed
from robusteval.analysis.leaderboard.board import Board, Score
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.core.norms import Norm
from robusteval.reports import write_report
from robusteval.reports.certification import page
from robusteval.reports.certification.page import write_certification
from robusteval.reports.figures import thumbnails
from robusteval.reports.leaderboard import leaderboard, read_board, write_board
from robusteval.reports.sections import image_table
from robusteval.reports.sections.image_table import shown_images
from robusteval.results.files import read_arrays
from robusteval.results.run import Run
from run_fixture import build_run

ROWS = 200
PROBE = """
import sys
from pathlib import Path
from robusteval.reports import write_report
from robusteval.reports.leaderboard import leaderboard, write_board
from robusteval.reports.sections import image_table
from robusteval.results import rows
from robusteval.results.run import Run
image_table.ROWS, rows.AT_ONCE, rows.FEW = 200, 4096, 0
run = Run.open(sys.argv[1])
write_report(run) if sys.argv[2] == "report" else write_board(leaderboard([run]), Path(sys.argv[1]) / "board")
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(small: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """6,000 images, in six files."""
    return repeated(small, tmp_path_factory.mktemp("large"), 6000)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (image_table, page):
        monkeypatch.setattr(module, "ROWS", ROWS)


def peak(run: Run, what: str) -> int:
    """Bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(run.path), what], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("what", ["report", "leaderboard"])
def test_memory_grows_by_little_an_image(what: str, small: Run, tmp_path: Path) -> None:
    """In pieces so small that both runs have several. Whole tables were 15,000 bytes an image in a report and 3,700 in
    a leaderboard. The goal is 300; and what a process holds besides differs by up to 10 MB from one to the next, which
    is 200 bytes of each of these 50,000 images."""
    few, many = (repeated(small, tmp_path / str(n), n) for n in (10_000, 60_000))
    assert (peak(many, what) - peak(few, what)) / 50_000 < 300 + 200


def test_a_page_does_not_grow_with_the_images(small: Run, large: Run, few_rows: None, tmp_path: Path) -> None:
    larger = repeated(small, tmp_path, 12_000)
    one, other = (write_report(run).stat().st_size for run in (large, larger))
    assert other < 1.05 * one
    one, other = (write_certification(run).stat().st_size for run in (large, larger))
    assert other < 1.05 * one


def test_a_page_says_what_it_leaves_out(large: Run, few_rows: None) -> None:
    text = write_report(large).read_text()
    assert f"Of 6,000 images {ROWS} are here, evenly from the closest witness to the farthest" in text
    assert f"A line has at most {STEPS:,} of its steps" in text
    assert f"Drawn are 800 of 6,000 images, evenly along this order. The data have {STEPS:,}" in text
    rows = json.loads(text.partition('id="image-data">')[2].partition("</script>")[0])["rows"]
    assert len(rows) == ROWS
    assert len(json.loads(text.partition('id="thumbnails">')[2].partition("</script>")[0])) == ROWS
    assert f"Of 6,000 images {ROWS} are here, evenly by name" in write_certification(large).read_text()
    table = (large.path / "tables" / "certification.csv").read_text().splitlines()
    assert len(table) == 1 + 6000
    assert len((large.path / "figures" / "curves-l2.csv").read_text().splitlines()) <= 1 + 3 * STEPS


def test_the_rows_of_a_page(large: Run, few_rows: None) -> None:
    results, bounds = Results(large), large.bounds()
    places = shown_images(results, Norm.L2)
    assert (np.diff(places) > 0).all()
    assert len(places) == ROWS
    contradicted = (bounds["contradictions"] != "").to_numpy()
    assert contradicted[places].sum() >= ROWS // 2
    far = bounds["upper_l2"].to_numpy()
    assert {far.min(), far.max()} <= {*far[places]}


def test_of_all_pictures_those_shown_are_read(large: Run, few_rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(path: Path, names: Any = None) -> Any:
        found = read_arrays(path, names)
        read.append(len(found))
        return found

    monkeypatch.setattr(thumbnails, "read_arrays", counted)
    monkeypatch.setattr(thumbnails, "on_all_cores", lambda compute, items: enumerate(map(compute, items)))
    table = image_table.image_table(Results(large))
    assert [len(row) for row in table.thumbs] == [3] * ROWS
    assert all(image for image, _, _ in table.thumbs)
    assert ROWS <= sum(read) <= 3 * ROWS


def test_a_leaderboard_of_many_images_is_the_same_in_less(
    large: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = leaderboard([large])
    write_board(board, tmp_path / "lists")
    monkeypatch.setattr(packed, "MANY", 100)
    write_board(board, tmp_path / "packed")
    lists, text = (read_board(tmp_path / name) for name in ("lists", "packed"))
    assert lists == text == board
    assert list(text.images) == sorted(large.table("images")["image_id"])
    assert leaderboard([], text).entries == board.entries
    sizes = [(tmp_path / name / "leaderboard.json").stat().st_size for name in ("lists", "packed")]
    assert sizes[1] < sizes[0] / 4
    assert len((tmp_path / "packed" / "figures" / "curves-l2.csv").read_text().splitlines()) <= 1 + STEPS


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ("no base64!", "expected a list, or one that was compressed by zlib, in base64"),
        ("AAAA", "expected a list, or one that was compressed by zlib, in base64"),
        (packed._packed(bytes(100))[:-8], "expected"),
        (packed._packed(bytes(7)), "buffer size"),
        ([True], "expected a list of numbers"),
        ({}, "expected a list of numbers"),
    ],
)
def test_forged_values_are_refused(forged: Any, why: str, large: Run, tmp_path: Path) -> None:
    path = write_board(leaderboard([large]), tmp_path).with_suffix(".json")
    board = json.loads(path.read_text())
    board["entries"][0]["scores"]["clean"]["images"] = forged
    path.write_text(json.dumps(board))
    with pytest.raises(UserError, match=why):
        read_board(path)


def test_what_unpacks_to_more_than_a_leaderboard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MANIFEST_BYTES", 1000)
    score = {"value": 1, "low": 0, "high": 1, "shown": "", "interval": "", "images": packed._packed(bytes(8000))}
    with pytest.raises(ValueError, match="expected a whole list of at most 1,000 bytes"):
        Score.model_validate(score)


def test_the_schema_holds_for_both(large: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import jsonschema

    schema = Board.model_json_schema(mode="serialization")
    for many in (100, 10_000):
        monkeypatch.setattr(packed, "MANY", many)
        jsonschema.validate(json.loads(leaderboard([large]).model_dump_json()), schema)
