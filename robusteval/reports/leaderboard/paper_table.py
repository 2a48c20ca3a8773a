"""The ranking of a leaderboard as one LaTeX table, ready for a paper."""

from __future__ import annotations

from collections.abc import Iterable

from robusteval.analysis.leaderboard.board import Board
from robusteval.reports.formats.latex import escaped
from robusteval.reports.leaderboard.ranking import RankedCell, Ranking, board_subject, ranking, trained


def paper_table(board: Board) -> str:
    """A table* over both columns of a page; \\usepackage{booktabs} is all it needs. Each model has two lines: its
    numbers and its architecture, then their intervals and how it was trained. A budget stands once, above its columns.
    """
    found = ranking(board)
    groups, rules = _groups(found)
    lines: list[str] = []
    for row in found.rows:
        entry = row.entry
        lines.append(_line([row.rank, entry.model], map(_value, row.cells), escaped(entry.architecture or "-")))
        training = "" if entry.training is None else rf"\scriptsize {escaped(trained(entry))}"
        lines += [_line(["", ""], map(_interval, row.cells), training), r"\addlinespace[2pt]"]
    headings = [_heading(title) for _, title in found.titles]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
            rf"\caption{{{escaped(board_subject(board))} {escaped(found.rule)}}}",
            rf"\begin{{tabular}}{{@{{}}rl{'r' * len(headings)}p{{9em}}@{{}}}}",
            r"\toprule",
            groups,
            *rules,
            _line(["", "Model"], headings, "Architecture, trained by"),
            r"\midrule",
            *lines[:-1],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _groups(found: Ranking) -> tuple[str, list[str]]:
    """The line of headings above those of the columns, and the rules below it."""
    above, rules, at = ["", ""], [], 3
    for group in found.groups:
        last = at + len(group.columns) - 1
        above.append(rf"\multicolumn{{{len(group.columns)}}}{{c}}{{{escaped(group.title)}}}" if group.title else "")
        rules += [rf"\cmidrule(lr){{{at}-{last}}}"] if group.title else []
        at = last + 1
    return " & ".join([*above, ""]) + r" \\", rules


def _line(first: list[str], cells: Iterable[str], last: str) -> str:
    return " & ".join([*map(escaped, first), *cells, last]) + r" \\"


def _heading(title: str) -> str:
    """Two lines where there is a comma to break it at."""
    first, comma, second = title.rpartition(", ")
    return rf"\shortstack[r]{{{escaped(first)}\\{escaped(second)}}}" if comma else escaped(title)


def _value(cell: RankedCell) -> str:
    return rf"\textbf{{{escaped(cell.shown)}}}" if cell.best else escaped(cell.shown)


def _interval(cell: RankedCell) -> str:
    return "" if cell.interval == "-" else rf"\scriptsize {escaped(cell.interval)}"
