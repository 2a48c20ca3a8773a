"""The report as people see it, in light and dark, on a phone and on paper: readable, whole, and open to everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from looking import LOOKS, Look, alike, axe_findings, looked_at, opened
from robusteval.analysis.results import Results
from robusteval.reports.figures.standing import LIGHT, PARTS
from robusteval.reports.formats.explained import explained
from robusteval.reports.sections.contents import contents
from robusteval.results.run import Run

BAD = """<!DOCTYPE html><html lang="en" data-ready><body style="margin: 0"><p style="color: #999">faint</p>
<p>below</p><p style="margin-top: -2.2rem">above</p>
<figure style="overflow: auto"><img alt="wide" style="width: 2000px; height: 9px"
src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="></figure>
<div style="width: 3000px; height: 2px"></div></body></html>"""


@pytest.mark.parametrize("look", LOOKS)
def test_the_report_is_readable_and_whole(run: Run, page: str, browser: Any, look: str) -> None:
    tab = opened(browser, run.path / "report.html", look)
    assert looked_at(tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    # All of it: what is folded as well.
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert looked_at(tab) == Look(faint=[], overlapping=[], cut=[], wider_by=0)
    tab.close()


def test_what_is_wrong_is_seen(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "bad.html").write_text(BAD)
    tab = opened(browser, tmp_path / "bad.html", "phone")
    found = looked_at(tab)
    assert found.faint == ["faint: 2.85"]
    assert found.overlapping == ["above / below"]
    assert found.cut[0].startswith("wide: 40 to 2040 of ")
    assert found.wider_by == 3000 - 360
    tab.close()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_serious_fault(run: Run, page: str, browser: Any, look: str) -> None:
    tab = opened(browser, run.path / "report.html", look)
    assert axe_findings(tab) == []
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    tab.locator("#images button.open").first.click()
    assert axe_findings(tab) == []
    tab.close()


def test_axe_sees_a_fault(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "bad.html").write_text(BAD)
    tab = opened(browser, tmp_path / "bad.html", "light")
    assert any(found.startswith("color-contrast (serious)") for found in axe_findings(tab))
    tab.close()


def luminance(colour: str) -> float:
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (r, g, b))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("part", [part for part in PARTS if part != "open"])
def test_the_numbers_on_the_bars_of_the_figure_are_readable(part: str) -> None:
    assert (luminance(LIGHT) + 0.05) / (luminance(PARTS[part][1]) + 0.05) >= 4.5


def test_no_two_curves_of_a_figure_look_alike(run: Run) -> None:
    plots = [plot for section in contents(Results(run)).sections for plot in section.plots]
    assert len(plots) > 5
    assert {plot.name: found for plot in plots if (found := alike(plot))} == {}


def test_a_smoothed_model_has_its_formula_on_hover_and_nothing_else_is_markup() -> None:
    said = explained("<b> The model smoothed with noise 0.12, 0.25 or 1e-05. It is (alpha 0.001).")
    assert said.startswith("&lt;b&gt; <abbr tabindex=")
    assert 'title="smooth(f, 0.12, 0.25 or 1e-05): g(x) = argmax' in said
    assert ">The model smoothed with noise 0.12, 0.25 or 1e-05</abbr>. It is (<abbr" in said
    assert "may be wrong with a probability of at most 0.001" in said
    assert explained("a & b") == "a &amp; b"
