"""The report in a real browser: tables, details, phones, paper, ten thousand images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robusteval.results.run import Run
from run_fixture import EVIL, IDS
from visiting import Visit


def test_the_table_sorts_and_filters_in_a_browser(run: Run, page: str, browser: Any) -> None:
    visit = Visit(browser, run.path / "report.html")
    assert visit.column("Name") == IDS
    assert set(visit.column("Class")) == {EVIL, "a|b", "two"}
    visit.sort("Witness at")
    ascending = visit.settles("Witness at", "0.00000")
    assert ascending[-2:] == ["none found", "none found"]
    finite = [float(x) for x in ascending[:-2]]
    assert finite == sorted(finite)
    visit.sort("Witness at")
    assert visit.settles("Witness at", "none found")[-1] == "0.00000"
    assert visit.column("Found by")[-1] == "the image itself"
    # The class of the witness; of a misclassified image its own; none where no attack succeeded.
    assert visit.column("Seen as") == ["", "", *[EVIL] * 5, "two"]
    visit.tab.select_option("#filter-show", "wrong")
    assert visit.settles("Name", IDS[-1]) == [IDS[-1]]
    visit.tab.select_option("#filter-show", "contradiction")
    assert visit.settles("Name", "image-0") == ["image-0"]
    visit.tab.select_option("#filter-show", "all")
    visit.tab.select_option("#filter-class", "two")
    assert visit.settles("Class", "two") == ["two", "two"]
    visit.tab.select_option("#filter-class", "")
    visit.tab.fill(".dt-search input", "image-3")
    assert visit.settles("Name", "image-3") == ["image-3"]
    visit.tab.emulate_media(color_scheme="dark")
    assert visit.said == []
    assert not [u for u in visit.asked if not u.startswith(("file:", "data:", "blob:"))]


def test_a_name_opens_the_details_of_its_image(run: Run, page: str, browser: Any) -> None:
    visit = Visit(browser, run.path / "report.html")
    visit.tab.locator("#images button.open").first.click()
    shown = visit.tab.locator("#details")
    assert shown.locator("h2").text_content() == IDS[0]
    assert shown.locator("img").count() == 3
    names, cells = shown.locator("dt").all_text_contents(), shown.locator("dd").all_text_contents()
    assert cells[names.index("Class")] == EVIL
    assert cells[names.index("Witness at")] == visit.column("Witness at")[0]
    assert cells[names.index("Seen as")] == EVIL
    visit.tab.keyboard.press("Escape")
    assert not shown.is_visible()
    # The last name is markup, and stays text.
    visit.tab.locator("#images button.open").last.click()
    assert shown.locator("h2").text_content() == IDS[-1]
    assert shown.locator("img").count() == 1
    shown.locator(".close").click()
    assert not shown.is_visible()
    assert visit.said == []


def test_it_fits_a_phone(run: Run, page: str, browser: Any) -> None:
    visit = Visit(browser, run.path / "report.html")
    visit.tab.set_viewport_size({"width": 390, "height": 844})
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_fits_a_printed_page(run: Run, page: str, browser: Any) -> None:
    """180 mm wide, on white whatever the screen has, with the head of the table and without what one clicks."""
    visit = Visit(browser, run.path / "report.html")
    visit.tab.set_viewport_size({"width": 680, "height": 1000})
    visit.tab.emulate_media(media="print", color_scheme="dark")
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 680
    assert visit.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # By which the drawings, too, take the colours for white paper.
    assert visit.tab.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert visit.tab.locator(".dt-scroll-body thead th", has_text="Witness at").first.bounding_box()["height"] > 8
    assert not visit.tab.locator("nav, .filters, .dt-paging, .beside").filter(visible=True).count()
    for kept in (".verdict", ".bar", ".examples img", ".unchecked", "figcaption", ".printed", ".faint"):
        assert visit.tab.locator(kept).first.is_visible(), kept


def test_the_data_of_a_figure_comes_out_of_the_page(run: Run, page: str, browser: Any) -> None:
    visit = Visit(browser, run.path / "report.html")
    buttons = visit.tab.locator("button.csv")
    assert buttons.count() == len(list((run.path / "figures").glob("*.csv")))
    for button in buttons.all()[:3]:
        with visit.tab.expect_download() as waiting:
            button.click()
        name = waiting.value.suggested_filename
        assert name == button.text_content()
        assert Path(waiting.value.path()).read_text() == (run.path / "figures" / name).read_text()
    assert visit.said == []
