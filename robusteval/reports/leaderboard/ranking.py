"""The first table of a leaderboard: one row a model, its rank, its accuracies at each budget, its distances, and how it
was made. HTML, Markdown and LaTeX show these cells."""

from __future__ import annotations

from dataclasses import dataclass

from robusteval.analysis.leaderboard.board import WORST, Board, BoardColumn, BoardEntry, Score
from robusteval.reports.grid import Grid
from robusteval.results.records import CLEAN

UNRANKED = 10**6
"""The place in the order of a model without the number that ranks."""


@dataclass(frozen=True)
class Group:
    """Columns below one heading, which is empty for a column that stands alone: (what it is called there, column)."""

    title: str
    columns: tuple[tuple[str, BoardColumn], ...]


@dataclass(frozen=True)
class RankedCell:
    """A number with its interval as shown ("-" for none), by which it is sorted, and whether it is among the best: no
    model is significantly better, and at least one is significantly worse."""

    shown: str
    interval: str
    order: float
    best: bool


@dataclass(frozen=True)
class Row:
    """One model: its rank ("1=" where others share it, "-" where it was not compared), and a cell a column."""

    rank: str
    order: int
    entry: BoardEntry
    cells: tuple[RankedCell, ...]


@dataclass(frozen=True)
class Ranking:
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    rule: str
    """What a rank means, in words."""

    @property
    def titles(self) -> list[tuple[str, str]]:
        """(heading of the group, of the column), from left to right."""
        return [(group.title, title) for group in self.groups for title, _ in group.columns]


def ranking(board: Board) -> Ranking:
    """The models by rank; of one rank in the order of the board."""
    groups = _groups(board)
    ranks = [_rank(entry.scores.get(board.ranked_by.key)) for entry in board.entries]
    columns = [[entry.scores.get(c.key) for entry in board.entries] for group in groups for _, c in group.columns]
    cells = zip(*map(_cells, columns), strict=True)
    rows = [
        Row("-" if rank == UNRANKED else f"{rank}=" if ranks.count(rank) > 1 else str(rank), rank, entry, own)
        for rank, entry, own in zip(ranks, board.entries, cells, strict=True)
    ]
    return Ranking(groups, tuple(sorted(rows, key=lambda row: row.order)), rule(board.ranked_by))


def _rank(score: Score | None) -> int:
    return UNRANKED if score is None or score.rank is None else score.rank


def _cells(scores: list[Score | None]) -> list[RankedCell]:
    """Of one column. A model without the number sorts last in it."""
    compared = sum(score is not None and score.rank is not None for score in scores)
    found = []
    for score in scores:
        if score is None:
            found.append(RankedCell("-", "-", 1e300, False))
            continue
        best = score.rank == 1 and score.rank_last is not None and score.rank_last < compared
        found.append(RankedCell(score.shown, score.interval, min(score.value, 1e300), best))
    return found


def rule(column: BoardColumn) -> str:
    """How the models are ranked by a column, and what is printed bold."""
    what = {WORST: "robust accuracy over all budgets", CLEAN: "clean accuracy"}.get(column.key) or (
        f"{column.title[0].lower()}{column.title[1:]}"
    )
    return (
        f"Ranked by {what}: a rank is 1 + the number of models that are significantly better here (McNemar's "
        "exact test, 5 % over all pairs by Holm's correction). So models that these images do not tell apart share a "
        "rank, marked =, unless a third model is better than one of them alone. Bold: no model is significantly better "
        "in the column, and one is significantly worse. Intervals are 95 % over the images."
    )


def _groups(board: Board) -> tuple[Group, ...]:
    by_key = {column.key: column for column in board.columns}
    at: dict[str, list[tuple[str, BoardColumn]]] = {}
    for column in _at_budgets(board):
        at.setdefault(f"{column.norm and column.norm.symbol} {column.budget}", []).append((_short(column), column))
    medians = [c for c in board.columns if c.norm and c.key == f"median_{c.norm}"]
    asked = [c for c in medians if c.norm in board.protocol.budgets] or medians
    far = tuple((c.norm.symbol, c) for c in asked if c.norm)
    return (
        Group("", (("Clean", by_key[CLEAN]),)),
        *(Group(title, tuple(columns)) for title, columns in at.items()),
        *([Group("All budgets", (("robust, at most", by_key[WORST]),))] if WORST in by_key else []),
        *([Group("Median distance, at most", far)] if far else []),
    )


def _at_budgets(board: Board) -> list[BoardColumn]:
    """Robust accuracy, and certified accuracy of the models themselves; that of smoothed ones only where there is no
    other: they are other models, and stand below, each in a column of its own."""
    found = [c for c in board.columns if c.budget and c.norm]
    own = [c for c in found if not c.of_another]
    return own if any(not c.robust for c in own) else found


def _short(column: BoardColumn) -> str:
    """What a column is called below its budget."""
    if column.robust:
        return "robust, at most"
    of = column.title.removeprefix("Certified accuracy").rsplit(",", 1)[0].strip()
    return f"certified {of}, at least" if of else "certified, at least"


def ranking_grid(board: Board) -> Grid:
    """The ranking with one line of headings, each number with its interval, for text."""
    found = ranking(board)
    headings = ["Rank", "Model", *(f"{group}: {title}" if group else title for group, title in found.titles)]
    rows = [
        [row.rank, row.entry.model, *map(_with_interval, row.cells), row.entry.architecture or "-", trained(row.entry)]
        for row in found.rows
    ]
    return Grid("Ranking", [*headings, "Architecture", "Trained by"], rows, text=2, note=found.rule, name="ranking")


def _with_interval(cell: RankedCell) -> str:
    return cell.shown if cell.interval == "-" else f"{cell.shown} ({cell.interval})"


def trained(entry: BoardEntry) -> str:
    """How a model was trained, as its card says."""
    return entry.training or "-"


def board_subject(board: Board) -> str:
    """Of what the board is, in a sentence."""
    models = f"{len(board.entries)} models" if len(board.entries) > 1 else "One model"
    return f"{models} on {len(board.images):,} images of {board.data}, protocol {board.protocol.name}."
