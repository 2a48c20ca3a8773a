"""Pages of a run made again: an edited one is named with its line, and the run is only read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robusteval.reports import write_report
from robusteval.reports.certification.page import write_certification
from robusteval.reports.pages_again import compare_pages
from robusteval.results.digest import digest
from robusteval.results.run import Run
from run_fixture import build_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = build_run(tmp_path / "run")
    write_report(run)
    write_certification(run)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_written_is_made_again_byte_for_byte_and_nothing_is_written(run: Run) -> None:
    before = contents(run.path)
    pages = compare_pages(run)
    assert (pages.findings, pages.unchecked) == ((), ())
    evidence = {n for n in before if n.startswith(("parts/", "witnesses/")) or n.endswith((".parquet", ".npz"))}
    assert pages.compared == len(before.keys() - evidence - {"manifest.json", "tables/bounds.csv"})
    assert contents(run.path) == before


def test_no_pages_are_fine(tmp_path: Path) -> None:
    pages = compare_pages(build_run(tmp_path / "run"))
    assert (pages.compared, pages.findings, pages.unchecked) == (0, (), ())


def test_each_edited_page_is_named_with_its_line(run: Run) -> None:
    page = run.path / "certification.html"
    text = page.read_text()
    share = next(found for found in re.findall(r"<td>([0-9.]+ %)</td>", text) if found != "99.0 %")
    at = text.index(f"<td>{share}")
    page.write_text(text[:at] + "<td>99.0 %" + text[at + len(f"<td>{share}") :])
    line = text[:at].count("\n") + 1
    (finding,) = compare_pages(run).findings
    assert finding.startswith(f"certification.html, line {line}: ")
    assert "99.0 %" in finding
    assert share in finding


def test_every_kind_of_page_is_compared(run: Run) -> None:
    names = ["report.html", "report.md", "report.json", "tables/certification.csv", "tables/distances.csv"]
    names += [f"figures/{next((run.path / 'figures').glob(f'*.{kind}')).name}" for kind in ("svg", "png", "csv")]
    names += [f"tables/report/{next((run.path / 'tables/report').glob(f'*.{kind}')).name}" for kind in ("csv", "tex")]
    for name in names:
        with (run.path / name).open("ab") as file:
            file.write(b"1\n")
    assert sorted(f.split(",")[0] for f in compare_pages(run).findings) == sorted(names)


def test_a_foreign_page_is_named(run: Run) -> None:
    (run.path / "figures" / "more").mkdir()
    names = ["figures/more/summary.htm", "summary.html"]
    for name in names:
        (run.path / name).write_text("99.0 %")
    assert compare_pages(run).findings == tuple(f"{name} is none of the pages of this run" for name in names)


def test_a_record_kept_in_the_run_by_its_user_is_unchecked(run: Run) -> None:
    (run.path / "verification.json").write_text("{}")
    pages = compare_pages(run)
    assert pages.findings == ()
    assert pages.unchecked == ("verification.json, the record of an earlier verification",)


def test_drawings_of_another_matplotlib_are_unchecked_and_their_data_is_not(run: Run) -> None:
    for path in (run.path / "figures").glob("*.svg"):
        path.write_text(path.read_text().replace("Matplotlib v", "Matplotlib v0."))
    data = sorted((run.path / "figures").glob("*.csv"))[0]
    data.write_text(data.read_text() + "1\n")
    report = run.path / "report.html"
    report.write_text(report.read_text().replace("</h1>", ", 99.0 %</h1>", 1))
    pages = compare_pages(run)
    assert [f.split(",")[0] for f in pages.findings] == [f"figures/{data.name}", "report.html"]
    assert len(pages.unchecked) == len(list((run.path / "figures").glob("*.svg")))
    assert "said to be by matplotlib 0." in pages.unchecked[0]


def test_another_matplotlib_is_no_reason_for_text_or_script(run: Run) -> None:
    """What a forger hides behind the drawings of another version."""
    (drawn, *_) = sorted((run.path / "figures").glob("*.svg"))
    text = drawn.read_text().replace("Matplotlib v", "Matplotlib v0.")
    drawn.write_text(text.replace("</svg>", "<script>alert(1)</script></svg>"))
    report = run.path / "report.html"
    injected = 'src="data:image/svg </p><h1>PROVEN</h1><script>x</script><p>"'
    report.write_text(report.read_text().replace("</p>", f"{injected}</p>", 1))
    found = compare_pages(run).findings
    assert any(f.startswith("report.html, line ") for f in found)
    assert any(f.startswith(f"figures/{drawn.name}, ") and "a browser would run" in f for f in found)


def test_reports_name_the_digest_and_it_covers_claims_and_evidence(run: Run) -> None:
    own = digest(run.manifest)
    for name in ("report.html", "report.md", "certification.html"):
        assert own in (run.path / name).read_text()
    for change in ({"seed": 1}, {"evidence": {"parts/x": "0" * 64}}):
        assert digest(run.manifest.model_copy(update=change)) != own
