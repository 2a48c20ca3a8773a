"""report.md: the report for a terminal or a pull request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from robusteval.audit.run import Run, atomically
from robusteval.reports import distances, papers, sections
from robusteval.reports.chapters import CHAPTERS
from robusteval.reports.headline import guarantees, headline
from robusteval.reports.sections import Grid
from robusteval.reports.summary import summarise


def write_markdown(run: Run) -> Path:
    """Write report.md into a finished run; return its path. Names are escaped: no HTML, no markup."""
    summary = summarise(run)
    lines = [[x.quantity, x.at, x.value, x.interval, str(x.n)] for x in headline(summary)]
    top = Grid("", ["Quantity", "at", "value", "95 % interval", "images"], lines, text=2)
    lower, published = sections.certificates(run), papers.paper_tables([run])
    held = sections.calibration(summary)
    far = sections.distances(run, distances.reaches(run))
    parts = [
        f"# Robustness of {escaped(summary.model)}",
        escaped(sections.verdict(summary)),
        table(top),
        *(escaped(text) for text in guarantees(summary)),
        *(
            f"> **{escaped(f.title)}.** {escaped(f.evidence)} {escaped(f.threshold)} {escaped(f.mitigation)}"
            for f in summary.flags
        ),
        *(f"> {escaped(note)}" for note in sections.notes(summary)),
        "Fooled is the share of correctly classified images for which the attack found a witness within the budget.",
        *(part for grid in sections.attacks(summary) for part in (f"## {grid.title}", table(grid))),
        *(part for grid in far for part in (f"## {grid.title}", table(grid), escaped(grid.note))),
        *((f"## {papers.title(run)}",) if published else ()),
        *(part for grid in published for part in (f"### {grid.title}", table(grid), escaped(grid.note))),
        *((f"## {lower.title}", table(lower)) if lower else ()),
        *((f"### {held.title}", table(held), escaped(held.note)) if held else ()),
        *(
            part
            for chapter in CHAPTERS
            for grid in chapter.grids(run)
            for part in (f"## {grid.title}", table(grid), escaped(grid.note))
        ),
        "## Cost",
        table(sections.costs(summary)),
        "## How it was made",
        "\n".join(f"- {escaped(name)}: {escaped(text)}" for name, text in sections.facts(run)),
        fenced(shlex.join(run.manifest["command"])) if run.manifest["command"] else "",
    ]
    path = run.path / "report.md"
    text = "\n\n".join(part for part in parts if part) + "\n"
    atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def table(grid: Grid) -> str:
    """A pipe table, padded so that it reads as text too; numbers to the right."""
    cells = [[escaped(cell) for cell in row] for row in (grid.headings, *grid.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * w if i < grid.text else "-" * (w - 1) + ":" for i, w in enumerate(widths)]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if i < grid.text else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    return "\n".join(map(line, (cells[0], rule, *cells[1:])))


def fenced(code: str) -> str:
    """A code block that its content cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{code}\n{fence}"
