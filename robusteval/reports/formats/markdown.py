"""report.md: the report for a terminal or a pull request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from robusteval.analysis import show
from robusteval.analysis.closest import Example
from robusteval.analysis.masking import Flag
from robusteval.core.foreign import readable
from robusteval.reports.grid import Grid
from robusteval.reports.sections.contents import Contents


def as_markdown(report: Contents) -> str:
    """The report without its figures. Names are escaped: no HTML, no markup."""
    command, summary = report.results.manifest.command, report.summary
    top, *sections = report.sections
    parts = [
        f"# Robustness of {escaped(summary.model)}",
        escaped(report.opening),
        "\n".join(f"- {escaped(f'{line.says} {line.interval}')}" for line in report.at_budgets),
        escaped(report.closing),
        *(f"> **{escaped(w.title)}.** {escaped(w.text)} **Do next:** {escaped(w.advice)}" for w in summary.warnings),
        *map(_flagged, summary.leading_flags),
        *(["What may follow from that:"] if summary.other_flags else []),
        *map(_flagged, summary.other_flags),
        *(f"> {escaped(note)}" for note in report.notes),
        *(["Adversarial examples:"] if report.examples else []),
        "\n".join(f"- {escaped(_example(e))}" for e in report.examples),
        "Not checked:",
        "\n".join(f"- {escaped(text)}" for text in report.unchecked),
        *titled_tables(top.grids),
        "\n".join(f"- {escaped(text)}" for text in report.reading),
        *(
            part
            for s in sections
            if s.grids
            for part in (f"## {escaped(s.title)}", escaped(s.note), *titled_tables(s.grids))
        ),
        "## How it was made",
        "\n".join(f"- {escaped(name)}: {escaped(text)}" for name, text in report.facts),
        fenced(shlex.join(command)) if command else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _example(e: Example) -> str:
    at = f"{e.norm.symbol} {show.upper(e.distance, e.norm)}"
    return f"{e.image_id}: {e.label} -> {e.seen_as} at {at}, by {e.by} ({e.place})"


def _flagged(flag: Flag) -> str:
    said = f"{escaped(flag.evidence)} {escaped(flag.threshold)} **Do next:** {escaped(flag.mitigation)}"
    return f"> **{escaped(flag.title)}.** {said}"


def titled_tables(grids: Sequence[Grid]) -> Iterator[str]:
    """Each with its title above and its note below."""
    for grid in grids:
        yield f"### {escaped(grid.title)}"
        yield table(grid)
        yield escaped(grid.note)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = readable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
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
    return f"{fence}\n{readable(code)}\n{fence}"
