"""Reports: the numbers, their rounding, the escaping, and the page in a real browser."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import re
import subprocess
import sys
import time
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import forms
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import beta, binom

from records import with_changes
from robusteval.analysis import show
from robusteval.analysis.headline import headline_of
from robusteval.analysis.intervals import median, proportion, share
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing, Width, standings, widths
from robusteval.analysis.summary import Robust
from robusteval.core.norms import Norm
from robusteval.reports import summarise, write_report
from robusteval.reports.formats.markdown import escaped
from robusteval.reports.formats.terminal import headline_table
from robusteval.reports.sections.costs import cost_grid
from robusteval.reports.sections.verdict import verdict
from robusteval.results.manifest import CLEAN, Cost
from robusteval.results.run import Run, write_frame
from run_fixture import EVIL, IDS, N, build_run
from visiting import Visit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_report(run).read_text()


@pytest.fixture(scope="module")
def markdown(run: Run, page: str) -> str:
    return (run.path / "report.md").read_text()


def test_reading_reports_needs_no_torch_and_no_plotting_library() -> None:
    probe = (
        "import sys, robusteval.reports, robusteval.reports.formats.html, robusteval.reports.formats.markdown, "
        "robusteval.reports.formats.terminal; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "[]"


def test_drawing_needs_no_torch_and_leaves_matplotlib_as_it_was(run: Run) -> None:
    probe = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from robusteval.results.run import Run; from robusteval.reports import write_report\n"
        f"write_report(Run.open({str(run.path)!r}))\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_summary_by_hand(run: Run) -> None:
    summary = summarise(run)
    assert (summary.n, summary.clean.count) == (N, 7)
    # Border witnesses count as within; the misclassified image stands nowhere; DeepFool's L2 images bound Linf.
    assert [(r.norm, r.budget, r.share.count) for r in summary.robust] == [
        ("linf", 8 / 255, 6),
        ("linf", 0.1, 4),
        ("l2", 0.5, 4),
    ]
    # 0 0.1255 0.3 0.4 0.6 0.8 inf inf: PGD's image of image 0 is nearer than DeepFool's, and so is image 2's.
    l2 = {d.norm: d.median for d in summary.distances}["l2"]
    assert l2.value == pytest.approx(0.5, rel=1e-6)
    assert (l2.low, l2.high) == (0.0, math.inf)
    assert [(c.stage, c.kind, c.share.count) for c in summary.certified] == [
        ("l-bound-l2", "estimate", 3),
        ("smoothing-l2", "confidence", 5),
    ]
    assert summary.contradicted == (("L-bound (estimate), L2", 1),)
    assert summary.contradictions == 1
    assert [c.name for c in summary.unavailable] == ["transfer-linf"]
    pgd, deepfool = (next(c for c in summary.costs if c.name == n) for n in ("pgd-linf", "deepfool-l2"))
    assert [(s.budget, s.share.count, s.share.n) for s in pgd.successes] == [(8 / 255, 1, 7), (0.1, 3, 7)]
    assert pgd.median is None
    assert deepfool.median is not None
    assert deepfool.median.value == pytest.approx(0.525)
    assert not deepfool.batch_independent


def test_an_estimate_is_never_called_certified(run: Run) -> None:
    quantities = [line.quantity for line in headline_of(summarise(run))]
    assert "Estimated accuracy, L-bound" in quantities
    assert "Certified accuracy of smooth(f, 0.25), Randomized smoothing (confidence, alpha 0.001)" in quantities
    assert not any("ertified" in q and "bound" in q for q in quantities)


def test_proportion_is_clopper_pearson() -> None:
    share = proportion([True] * 3 + [False] * 7)
    assert (share.low, share.high) == pytest.approx((beta.ppf(0.025, 3, 8), beta.ppf(0.975, 4, 7)))
    assert (proportion([False] * 5).low, proportion([True] * 5).high) == (0.0, 1.0)


@pytest.mark.parametrize("n", [6, 7, 10, 50, 101])
def test_median_interval_is_the_narrowest_that_covers(n: int) -> None:
    found = median(np.arange(1, n + 1))
    rank = int(found.low)
    assert found.high == n + 1 - rank
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95


def test_median_with_failures() -> None:
    assert median([0.1, math.inf, math.inf]).value == math.inf
    assert median([0.1, 0.2, math.inf]).value == 0.2
    assert median([0.1, math.inf]).value == math.inf
    assert (median([1.0]).low, median([1.0]).high) == (0.0, math.inf)


def test_bounds_round_away_from_claiming_too_much() -> None:
    assert show.lower(0.25129, "l2") == "0.2512"
    assert show.upper(0.25121, "l2") == "0.2513"
    assert show.upper(0.1, "linf") == "0.10000"
    assert show.lower(0.1, "linf") == "0.10000"
    assert show.upper(math.inf, "l2") == "none found"
    assert show.percent(0.29, Round.DOWN) == show.percent(0.29, Round.UP) == "29.0 %"
    assert (show.percent(1 / 3, Round.DOWN), show.percent(1 / 3, Round.UP)) == ("33.3 %", "33.4 %")
    assert show.percents(0.12345, 0.12345) == "12.3 to 12.4 %"
    assert (show.budget(8 / 255), show.budget(0.1), show.budget(0.5)) == ("8/255", "0.1", "0.5")


def test_html_and_markdown_and_terminal_show_the_same_headline(run: Run, page: str, markdown: str) -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(headline_table(summarise(run)))
    terminal = console.export_text()
    assert max(map(len, terminal.splitlines())) <= 100
    in_html = forms.in_html(page)["Headline"][1:]
    lines = [[x.quantity, x.at, x.shown, x.interval, str(x.n)] for x in headline_of(summarise(run))]
    assert in_html == lines
    for line in lines:
        padded = r"\|\s+" + r"\s+\|\s+".join(re.escape(escaped(cell)) for cell in line) + r"\s+\|"
        assert re.search(padded, markdown), line
        assert re.search(re.escape(line[1]) + r"\s+" + re.escape(line[2]) + r"\s+" + re.escape(line[3]), terminal)


def test_every_table_has_the_same_cells_in_every_form(run: Run, page: str, markdown: str) -> None:
    in_html, in_markdown = forms.in_html(page), forms.in_markdown(markdown)
    written = json.loads((run.path / "report.json").read_text())
    in_json = {t["title"]: [t["headings"], *t["rows"]] for t in written["tables"]}
    folder = run.path / "tables" / "report"
    in_latex = {k: v for path in folder.glob("*.tex") for k, v in forms.in_latex(path.read_text()).items()}
    in_csv = [list(csv.reader(path.open(encoding="utf-8"))) for path in folder.glob("*.csv")]
    assert {"Headline", "Attacks in L2", "Radii of the lower bounds", "Cost of each method"} < in_html.keys()
    assert in_html == in_markdown == in_json == in_latex
    assert sorted(in_csv) == sorted(in_html.values())
    # In full precision too, where a program reads the headline.
    for line, row in zip(written["headline"], in_html["Headline"][1:], strict=True):
        assert [line["quantity"], line["at"], line["shown"], line["interval"], f"{line['n']:,}"] == row
        if row[2].endswith(" %"):
            assert line["value"] * 100 == pytest.approx(float(row[2].removesuffix(" %")), abs=0.1)
        assert line["low"] <= line["value"]


def test_sections_come_in_the_order_in_which_they_are_read(run: Run, page: str, markdown: str) -> None:
    order = ["verdict", "brackets", "curves", "table", "distances", "certificates", "noise", "jacobian-spectrum"]
    assert re.findall(r'<section id="([^"]*)">', page) == [*order, "cost", "manifest"]
    titles = re.findall(r"^## (.*)", markdown, re.MULTILINE)
    assert titles == ["Attacks", "Distances", "Lower bounds", "Noise", "Spectrum", "Cost", "How it was made"]


def test_standings_and_widths_by_hand() -> None:
    bounds = pd.DataFrame(
        {
            "correct": [True, True, True, True, True, False],
            "upper_linf": [0.5, 0.1 * (1 + 1e-8), 0.3, math.inf, 0.15, 0.0],
            "proof_linf": [0.1, 0.05, 0.0, 0.2, 0.0999, 0.0],
            "upper_l0": [1.0, 2.0, 3.0, 4.0, math.inf, 0.0],
            "upper_l2": [1.0] * 6,
            "proof_l2": [0.0] * 6,
        }
    )
    found = standings(bounds, {Norm.LINF: [0.2, 0.1], Norm.L0: [2]})
    # A witness on the border of a budget breaks, a proof of exactly a budget holds.
    assert [(s.norm, s.budget, s.proven, s.open, s.broken, s.wrong) for s in found] == [
        ("linf", 0.1, 2, 2, 1, 1),
        ("linf", 0.2, 1, 2, 2, 1),
        ("l0", 2, 0, 3, 2, 1),
    ]
    # Where a witness refutes a proof, the witness counts.
    refuted = bounds.assign(proof_linf=0.2)
    assert [(s.proven, s.broken) for s in standings(refuted, {Norm.LINF: [0.15]})] == [(3, 2)]
    (width,) = widths(bounds, ["l0", "l2", "linf"])
    # An infinite proof without a witness leaves nothing open: 0 0.05 0.0501 0.3 0.4.
    closed = bounds.assign(proof_linf=[0.1, 0.05, 0.0, math.inf, 0.0999, 0.0])
    assert widths(closed, ["linf"])[0].median.value == pytest.approx(0.0501)
    # 0.05 0.0501 0.3 0.4 infinity, over the images that are right.
    assert (width.norm, width.median.n) == ("linf", 5)
    assert width.median.value == pytest.approx(0.3)


def test_the_verdict_says_what_is_proven_and_how_wide_the_brackets_are(run: Run) -> None:
    summary = summarise(run)
    assert "87.5 % of 8 images" in verdict(summary)
    assert "Proven" not in verdict(summary)
    assert "The smoothed model smooth(f, 0.25) is certified on at least 62.5 % at L2 0.5." in verdict(summary)
    proven = (Standing("linf", 0.1, 3, 2, 2, 1), Standing("linf", 0.2, 1, 4, 2, 1), Standing("linf", 0.3, 0, 0, 7, 1))
    width = Width("linf", median([0.1, 0.2, 0.30000001]))
    proofs = dataclasses.replace(summary, guarantees=frozenset({"proof"}), standings=proven, widths=(width,))
    assert "Proven to stay right are at least 12.5 % at Linf 0.2." in verdict(proofs)
    assert "The median gap between proof and closest witness is 0.20000 in Linf." in verdict(proofs)
    third = tuple(dataclasses.replace(c, share=share(1, 3)) for c in summary.certified)
    assert "is certified on at least 33.3 % at" in verdict(dataclasses.replace(summary, certified=third))
    assert "falls to at most 66.7 % under" in verdict(
        dataclasses.replace(summary, robust=(Robust("l2", 1.0, share(2, 3)),))
    )
    assert "Signs of gradient masking: 1, below." in verdict(summary)
    assert "No sign of gradient masking was seen." in verdict(dataclasses.replace(summary, flags=()))
    # Attacks on no image show no sign of anything.
    assert "masking" not in verdict(dataclasses.replace(summary, clean=share(0, N)))
    nothing = dataclasses.replace(proofs, standings=proven[2:], widths=())
    assert "Nothing is proven at these budgets." in verdict(nothing)


def test_the_share_of_time_outside_the_model(tmp_path: Path) -> None:
    run = with_changes(build_run(tmp_path), "pgd-linf", cost=Cost(seconds=2.0, model_seconds=1.5))
    run = with_changes(run, "deepfool-l2", cost=Cost())
    rows = {row[0]: row[-1] for row in cost_grid(summarise(run).costs).rows}
    assert (rows["PGD, Linf"], rows["DeepFool, L2"]) == ("25.0 %", "-")


class _Links(HTMLParser):
    """Everything in a page that could load something or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]


def test_names_stay_text(page: str, markdown: str) -> None:
    assert EVIL not in page
    assert EVIL not in markdown
    assert html.escape(EVIL) in page
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;" in markdown
    parser = _Links()
    parser.feed(page)
    assert not [x for x in parser.found if x[1].startswith("on")]
    # Cells that the script puts into the page are HTML already: they hold images and plain text only.
    data = json.loads(re.search(r'id="image-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    tags = {tag for row in data["rows"] for cell in row for tag in re.findall(r"<(\w+)", cell[0])}
    assert tags == {"b", "button"}


def test_nothing_is_fetched(page: str) -> None:
    parser = _Links()
    parser.feed(page)
    for tag, name, value in parser.found:
        if name in ("src", "href", "srcset", "action", "data"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not re.search(r"@import|url\((?![\"']?data:)", page.split('id="datatables"')[0])


def test_the_page_says_what_to_know(page: str) -> None:
    text = html.unescape(page)
    assert "robusteval audit 'models/a b.safetensors' --out runs/tiny" in text
    assert f"Transfer, Linf could not run: no source {EVIL}" in text
    assert "on 1 image a lower bound lies above a witness" in text
    assert "guarantee nothing" in text


def test_every_figure_has_its_data(run: Run, page: str) -> None:
    folder = run.path / "figures"
    stems = {p.stem for p in folder.glob("*.svg")}
    expected = {"bracket-l2", "bracket-linf", "curves-l2", "curves-linf", "coverage-l2", "fits-l-bound"}
    assert stems == expected | {"verdict", "noise-gaussian-noise", "spectrum-jacobian-spectrum"}
    for suffix in (".png", ".csv"):
        assert {p.stem for p in folder.glob(f"*{suffix}")} == stems
    assert page.count("data:image/svg+xml") == len(stems)


@pytest.mark.parametrize(("certificates", "metrics"), [(True, False), (False, True)])
def test_a_run_without_some_methods_is_reported_all_the_same(tmp_path: Path, certificates: bool, metrics: bool) -> None:
    run = build_run(tmp_path, certificates=certificates, metrics=metrics)
    report = write_report(run)
    page, markdown = report.read_text(), report.with_suffix(".md").read_text()
    for section, present in (
        ("certificates", certificates),
        ("noise", metrics),
        ("jacobian-spectrum", metrics),
    ):
        assert (f'<section id="{section}">' in page) == present
    assert ("## Lower bounds" in markdown) == certificates


class Told:
    """What a report tells while it is made."""

    def __init__(self) -> None:
        self.said: list[str | int] = []

    def stage(self, name: str, done: int, total: int) -> None:
        self.said += [name, done, total]

    def advance(self, done: int) -> None:
        self.said.append(done)


def test_the_same_run_gives_the_same_report_and_says_how_far_it_is(run: Run, page: str) -> None:
    told, figures = Told(), page.count("data:image/svg+xml")
    assert write_report(run, told).read_text() == page
    assert told.said == ["figures", 0, figures, *[1] * figures]


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
    assert visit.tab.locator(".dt-scroll-body thead th", has_text="Witness at").first.bounding_box()["height"] > 8
    assert not visit.tab.locator("nav, .filters, .dt-paging, .beside").filter(visible=True).count()
    for kept in (".verdict", "figcaption", ".printed", ".faint"):
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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """10,000 images with their images."""
    run = build_run(tmp_path_factory.mktemp("large"), copies=1250, side=8, metrics=False)
    write_report(run)
    return run


def test_ten_thousand_images_open_and_stay_responsive(large: Run, browser: Any) -> None:
    visit = Visit(browser, large.path / "report.html")
    # Rows and images are made as they are looked at: 15 + 1 of the first 25 images have a witness.
    assert visit.tab.evaluate("document.querySelectorAll('#images tbody tr').length") == 25
    assert visit.tab.locator("#images img").count() == 16 * 3 + 9
    start = time.perf_counter()
    visit.sort("Name")
    assert len(visit.settles("Name", IDS[-1])) == 25
    visit.tab.locator(".dt-paging button", has_text="400").click()
    last = sorted(large.bounds()["image_id"])[-25:]
    assert visit.settles("Name", last[0]) == last
    visit.tab.fill(".dt-search input", "copy-7777")
    assert visit.settles("Name", "copy-7777") == ["copy-7777"]
    # Half a second on a desk; a shared machine may pause.
    assert time.perf_counter() - start < 10
    visit.tab.wait_for_function("() => [...document.querySelectorAll('#images img')].every((i) => i.complete)")
    drawn = visit.tab.evaluate("[...document.querySelectorAll('#images img')].map((i) => i.naturalWidth)")
    assert drawn == [8, 8, 8]
    assert visit.said == []


def test_every_image_has_its_images(large: Run) -> None:
    page = (large.path / "report.html").read_text()
    arrays = json.loads(re.search(r'id="thumbnails">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert [sum(map(bool, row)) for row in arrays] == [3, 3, 3, 3, 3, 1, 1, 1] * 1250
    # Compressed with loss, and still the image.
    kept = large.arrays(CLEAN)["copy-9000"]
    assert np.abs(_opened(arrays[9008][0], "webp") / 255 - kept[0]).max() < 0.05


def test_few_images_are_shown_exactly(run: Run, page: str) -> None:
    arrays = json.loads(re.search(r'id="thumbnails">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    shown = _opened(arrays[3][0], "png") / 255
    assert np.abs(shown - run.arrays(CLEAN)[IDS[3]][0]).max() <= 0.5 / 255 + 1e-6
    # The closest witness of image 0 is by PGD, here the image itself; that of image 1 by DeepFool, brighter.
    assert set(_opened(arrays[0][2], "png").flat) == {128}
    assert set(_opened(arrays[1][2], "png").flat) == {255}


def _opened(uri: str, form: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == f"data:image/{form};base64"
    return np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("L"))


def test_estimates_above_a_witness_are_headlines_before_and_after_calibration(run: Run, page: str) -> None:
    lines = {line.quantity: line for line in headline_of(summarise(run))}
    before, after = lines["Estimate above a witness, L-bound"], lines["The same, calibrated at 25.0 %"]
    assert (before.at, before.shown, before.n) == ("L2", "33.4 %", 3)
    assert (after.shown, after.n) == ("0.0 %", 3)
    # Of several, the one that is most often wrong.
    summary = summarise(run)
    (own,) = summary.calibrated
    better = dataclasses.replace(own, title="CLEVER (estimate), L2", before=proportion([False] * 3))
    lines = {x.quantity: x for x in headline_of(dataclasses.replace(summary, calibrated=(better, own, better)))}
    assert lines["Estimate most often above a witness, L-bound"].shown == "33.4 %"
    assert "split-conformal" in html.unescape(page)
    assert "0.7961" in page


def test_the_table_of_images_shows_what_the_smoothed_model_is_certified_for(run: Run, page: str) -> None:
    data = json.loads(re.search(r'id="image-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    certified = run.bounds()["confidence_l2"].tolist()
    column = [any(c == [f"{v:.4f}", v] for c in row) for row, v in zip(data["rows"], certified, strict=True) if v]
    assert column
    assert all(column)


def test_axes_of_wide_ranges_have_plain_numbers(tmp_path: Path) -> None:
    """The text of figures is never read as mathematics, so powers must come as numbers."""
    run = build_run(tmp_path)
    bounds = run.bounds().assign(**{"lower_l-bound-l2": [1e-5, 2e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.0]})
    write_frame(tmp_path / "tables" / "bounds.parquet", bounds)
    write_report(run)
    for figure in (tmp_path / "figures").glob("*.svg"):
        assert "mathdefault" not in figure.read_text(), figure.name


def test_what_covers_no_image_is_named_once(run: Run) -> None:
    summary = summarise(run)
    (bound, smoothed) = summary.certified
    none = proportion([False] * N)
    further = dataclasses.replace(bound, budget=1.0, share=none)
    nothing = [dataclasses.replace(smoothed, budget=b, share=none) for b in (0.5, 1.0)]
    lines = headline_of(dataclasses.replace(summary, certified=(bound, further, *nothing)))
    shown = [(x.quantity, x.at) for x in lines if "accuracy" in x.quantity][4:]
    assert shown == [
        ("Certified accuracy of smooth(f, 0.25), Randomized smoothing (confidence, alpha 0.001)", "L2 0.5"),
        ("Estimated accuracy, L-bound", "L2 0.5"),
    ]
