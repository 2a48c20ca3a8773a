"""The certification page on a phone, in the dark and on paper: a PDF that can be filed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from looking import LOOKS, Look, axe_findings, looked_at, opened
from pdf_text import pages_of
from records import with_model
from robusteval.reports.certification.page import write_certification
from robusteval.results.digest import digest
from robusteval.results.run import Run
from run_fixture import EVIL, FakeCertificate, build_paper_run
from visiting import Visit

N = 60
"""Images: more than the table shows at once, and than a page of paper holds."""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Run:
    certificates = [FakeCertificate("lipschitz-l2", [0.6] * N), FakeCertificate("crown-linf", [0.1] * N, norm="linf")]
    run = build_paper_run(
        tmp_path_factory.mktemp("long"),
        "mine",
        [True] * N,
        [],
        budgets={"l2": [0.5], "linf": [0.05]},
        certificates=certificates,
    )
    write_certification(run)
    return run


def test_its_pdf_has_all_images_and_names_itself_on_each_page(long: Run, browser: Any) -> None:
    pages = pages_of(Visit(browser, long.path / "certification.html").tab.pdf(prefer_css_page_size=True))
    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        assert f"page{number}of{len(pages)}" in page
        assert digest(long.manifest) in page
        assert "oftiny" in page
        assert "2026-01-02" in page
    text = "".join(pages)
    assert [i for i in range(N) if f"image-{i}" not in text] == []
    for clicked in ("Print,orsaveasPDF", "apage", "Search"):
        assert clicked not in text
    # The head of the table stands on each page that has rows of it.
    assert all("Predicted" in page for page in pages if "image-" in page)


def test_a_name_in_the_margin_stays_text(long: Run, tmp_path: Path, browser: Any) -> None:
    """A quotation mark, a brace and the end of a style sheet in a name are letters."""
    hostile = '"} body { display: none } </style>' + EVIL
    run = with_model(long, name=hostile)
    visit = Visit(browser, write_certification(run, tmp_path))
    assert visit.tab.locator("h1").inner_text() == f"Certification of {hostile}"
    assert visit.said == []
    first = pages_of(visit.tab.pdf(prefer_css_page_size=True))[0]
    assert 'of"}body{display:none}</style>' in first


def test_the_screen_shows_some_again_after_printing(long: Run, browser: Any) -> None:
    visit = Visit(browser, long.path / "certification.html")
    rows = visit.tab.locator("#images tbody tr")
    assert rows.count() == 25
    visit.tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert rows.count() == N
    visit.tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert rows.count() == 25


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_readable_and_whole(long: Run, browser: Any, look: str) -> None:
    tab = opened(browser, long.path / "certification.html", look)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))" if look == "print" else "0")
    assert looked_at(tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    tab.close()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_serious_fault(long: Run, browser: Any, look: str) -> None:
    tab = opened(browser, long.path / "certification.html", look)
    assert axe_findings(tab) == []
    tab.close()
