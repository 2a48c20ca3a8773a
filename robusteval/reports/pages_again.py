"""The pages of a run made again, outside of it, and compared byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from robusteval.analysis.results import Results
from robusteval.reports.certification.page import write_certification
from robusteval.reports.write import write_report
from robusteval.results.run import Run

_DRAWN = (".svg", ".png", ".html")
"""What holds drawings, whose bytes are those of one version of matplotlib."""
_DRAWN_BY = re.compile(r"Matplotlib v([0-9][0-9a-z.+]{0,30})")
_NO_PAGES = re.compile(
    r"\.lock|manifest\.json|tables/(bounds\.csv|[^/]*\.parquet)|(parts|witnesses|failures)/.*|.*\.tmp"
)
"""Evidence and what follows from it, which is checked elsewhere."""
_FIGURE = re.compile(rb'<div class="scroll"><img src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]*" ')
"""A drawing in a page, and nothing else that a page could hold."""
_ACTIVE = re.compile(rb"<script|<foreignobject|javascript:|\son[a-z]+\s*=", re.IGNORECASE)
_RECORDS = {"verification.json", "verification.json.sig", "verification.html"}
_SHOWN = 60


@dataclass(frozen=True)
class Pages:
    """How many pages were compared, what differs (file and first differing line), and what could not be compared."""

    compared: int
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]


def compare_pages(run: Run) -> Pages:
    """Make every page that lies in a finished run again and compare it; the run is only read.

    Pages are those of write_report and write_certification: HTML, Markdown, JSON, CSV, LaTeX and figures. Pages that
    were never made are not missed. A page that nothing makes is a finding. Where the figures are by another version of
    matplotlib, what holds drawings is unchecked where it differs; the data of the figures is compared all the same.
    """
    found = _pages(run.path)
    if not found:
        return Pages(0, (), ())
    with TemporaryDirectory() as folder:
        again = Path(folder)
        results = Results.of(run)
        write_report(results, into=again)
        if any(name.endswith("certification.html") or name == "tables/certification.csv" for name in found):
            write_certification(results, into=again)
        made = _pages(again)
        other = _other_matplotlib(found, made)
        findings, unchecked = [], []
        for name, path in found.items():
            if name in _RECORDS:
                unchecked.append(f"{name}, the record of an earlier verification")
            elif name not in made:
                findings.append(f"{name} is none of the pages of this run")
            elif (difference := _first_difference(path.read_bytes(), made[name].read_bytes())) is not None:
                if name.endswith(".svg") and _ACTIVE.search(path.read_bytes()):
                    findings.append(f"{name}, {difference}, and it holds what a browser would run")
                elif other and name.endswith(_DRAWN) and _without_drawings(path) == _without_drawings(made[name]):
                    unchecked.append(
                        f"{name}: its drawings, which may show anything: they are said to be by matplotlib {other[0]}, "
                        f"here is {other[1]}; `robusteval report` draws them again"
                    )
                else:
                    findings.append(f"{name}, {difference}")
        return Pages(len(found) - len(unchecked), tuple(findings), tuple(unchecked))


def _pages(folder: Path) -> dict[str, Path]:
    """Everything in a run but its evidence and the tables of it, by its path there."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: p for name, p in sorted(files.items()) if not _NO_PAGES.fullmatch(name)}


def _other_matplotlib(found: dict[str, Path], made: dict[str, Path]) -> tuple[str, str] | None:
    """The version of matplotlib that drew the run's figures and the one here, where they differ."""
    ours, theirs = set(_drawers(made)), set(_drawers(found))
    different = sorted(theirs - ours)
    return (different[0], min(ours)) if different and ours else None


def _drawers(pages: dict[str, Path]) -> Iterator[str]:
    for name, path in pages.items():
        if name.endswith(".svg") and (by := _DRAWN_BY.search(path.read_text(encoding="utf-8", errors="replace"))):
            yield by[1]


def _without_drawings(page: Path) -> bytes:
    """A page without its figures; of a figure by itself nothing."""
    return _FIGURE.sub(b"", page.read_bytes()) if page.suffix == ".html" else b""


def _first_difference(stored: bytes, again: bytes) -> str | None:
    """The first differing line and what stands there; None for the same bytes."""
    if stored == again:
        return None
    lines = zip_longest(stored.split(b"\n"), again.split(b"\n"), fillvalue=b"")
    for i, (old, new) in enumerate(lines, start=1):
        if old != new:
            at = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            start = max(0, at - _SHOWN // 3)
            return f"line {i}: is {_shown(old[start:])}, expected {_shown(new[start:])}"
    return "differs"


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN].decode("utf-8", errors="replace"))
