"""One report in all its forms: the same headline, sections and cells in each, and names that stay text."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import forms
import numpy as np
import pytest
from rich.console import Console

from robusteval.analysis.headline import headline_of
from robusteval.core.progress import Silent
from robusteval.reports import summarise, write_report
from robusteval.reports.formats.markdown import escaped
from robusteval.reports.formats.terminal import headline_table
from robusteval.results.records import CLEAN
from robusteval.results.run import Run
from run_fixture import EVIL, IDS, build_run


@pytest.fixture(scope="module")
def markdown(run: Run, page: str) -> str:
    return (run.path / "report.md").read_text()


@pytest.mark.parametrize("width", [50, 80])
def test_a_narrow_terminal_keeps_the_names_and_the_numbers(run: Run, width: int) -> None:
    summary = summarise(run)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(headline_table(summary))
    terminal = console.export_text()
    assert max(map(len, terminal.splitlines())) <= width
    assert "\u2026" not in terminal
    words = {
        word
        for line in headline_of(summary)
        for cell in (line.quantity, line.at, line.shown, line.interval)
        for word in cell.split()
    }
    assert {word for word in words if len(word) <= 9 and word not in terminal} == set()


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
    assert re.findall(r'<section id="([^"]*)"', page) == [*order, "cost", "manifest"]
    titles = re.findall(r"^## (.*)", markdown, re.MULTILINE)
    assert titles == ["Attacks", "Distances", "Lower bounds", "Noise", "Spectrum", "Cost", "How it was made"]


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
    assert f"Could not run: Transfer, Linf. No source {EVIL}" in text
    assert "on 1 image a lower bound is larger than the distance of a known adversarial example" in text
    assert "guarantee nothing" in text


def test_every_figure_has_its_data(run: Run, page: str) -> None:
    folder = run.path / "figures"
    stems = {p.stem for p in folder.glob("*.svg")}
    expected = {"bracket-l2", "bracket-linf", "curves-l2", "curves-linf", "coverage-l2", "fits-l-bound"}
    assert stems == expected | {"verdict", "noise-gaussian-noise", "spectrum-jacobian-spectrum"}
    for suffix in (".png", ".csv"):
        assert {p.stem for p in folder.glob(f"*{suffix}")} == stems
    # The bars of the verdict are part of the page, which is narrower than a figure on a phone.
    assert page.count("data:image/svg+xml") == len(stems) - 1


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


class Told(Silent):
    """What a report tells while it is made."""

    def __init__(self) -> None:
        self.said: list[str | int] = []

    def stage(self, name: str, done: int, total: int) -> None:
        self.said += [name, done, total]

    def advance(self, done: int) -> None:
        self.said.append(done)

    def stopped(self, name: str, status: str) -> None:
        self.said += [name, status]

    def warn(self, text: str) -> None:
        self.said.append(text)


def test_the_same_run_gives_the_same_report_and_says_how_far_it_is(run: Run, page: str) -> None:
    told, figures = Told(), len(list((run.path / "figures").glob("*.svg")))
    assert write_report(run, told).read_text() == page
    assert told.said == ["figures", 0, figures, *[1] * figures]


def test_few_images_are_shown_exactly(run: Run, page: str) -> None:
    arrays = json.loads(re.search(r'id="thumbnails">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    shown = forms.decoded(arrays[3][0], "png") / 255
    assert np.abs(shown - run.arrays(CLEAN)[IDS[3]][0]).max() <= 0.5 / 255 + 1e-6
    # The closest witness of image 0 is by PGD, here the image itself; that of image 1 by DeepFool, brighter.
    assert set(forms.decoded(arrays[0][2], "png").flat) == {128}
    assert set(forms.decoded(arrays[1][2], "png").flat) == {255}


def test_the_table_of_images_shows_what_the_smoothed_model_is_certified_for(run: Run, page: str) -> None:
    data = json.loads(re.search(r'id="image-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    certified = run.bounds()["confidence_l2"].tolist()
    column = [any(c == [f"{v:.4f}", v] for c in row) for row, v in zip(data["rows"], certified, strict=True) if v]
    assert column
    assert all(column)
