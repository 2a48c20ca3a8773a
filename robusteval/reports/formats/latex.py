"""A table for a paper: LaTeX with booktabs, text to the left and numbers to the right."""

from __future__ import annotations

import re

from robusteval.core.foreign import readable
from robusteval.reports.grid import Grid

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return re.sub(r"[\\{}$&%#_~^<>|]", lambda found: _SPECIAL[found.group()], readable(" ".join(text.split())))


def table(grid: Grid) -> str:
    """A table environment with its title as the caption and its note below; \\usepackage{booktabs} is all it needs."""
    columns = "l" * grid.text + "r" * (len(grid.headings) - grid.text)
    lines = [" & ".join(map(escaped, row)) + r" \\" for row in (grid.headings, *grid.rows)]
    note = [rf"\par\smallskip\footnotesize {escaped(grid.note)}"] if grid.note else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(grid.title)}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *note,
            r"\end{table}",
            "",
        ]
    )
