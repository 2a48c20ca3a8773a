"""A paper's tables and the page of a verification as people see them: readable, whole, and open to everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from looking import LOOKS, Look, axe_findings, looked_at, opened
from robusteval.cli.recording import make_record
from robusteval.reports.papers.write import write_paper_tables
from robusteval.reports.verification import write_verification
from robusteval.results.verification import Checked
from run_fixture import Fake, build_paper_run, build_run

CORRECT = [True, True, False]
FAR = {"linf": [4 / 255, 8 / 255, 0.0], "l2": [1.0, 2.0, 0.0]}
WRONG = [f"wrong parts/clean/00000.parquet, image digits-{i:04d}: label is 3, expected 4" for i in range(30)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    run = build_run(folder / "run")
    record = make_record(run, [Checked(what="predictions", values=16)], ["costs and times"], WRONG, "cpu", 1.0)
    write_verification(record, folder / "verified")
    attack = Fake("pgd", "pgd", "linf", FAR, (4 / 255, 8 / 255))
    made = build_paper_run(folder / "paper", "sgr-2019", CORRECT, [attack], name="a model")
    (tables,) = write_paper_tables([made], folder / "tables").values()
    return {"verification": folder / "verified" / "verification.html", "paper": Path(tables)}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", ["verification", "paper"])
def test_it_is_readable_and_whole(pages: dict[str, Path], browser: Any, page: str, look: str) -> None:
    tab = opened(browser, pages[page], look)
    assert looked_at(tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    tab.close()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("page", ["verification", "paper"])
def test_axe_finds_no_serious_fault(pages: dict[str, Path], browser: Any, page: str, look: str) -> None:
    tab = opened(browser, pages[page], look)
    assert axe_findings(tab) == []
    tab.close()
