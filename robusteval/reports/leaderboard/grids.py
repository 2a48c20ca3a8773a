"""The board as tables of text: the same cells in HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable

from robusteval.analysis import names, show
from robusteval.analysis.leaderboard.board import CERTIFIED, EXACT, Board, BoardColumn, Score
from robusteval.analysis.show import Round
from robusteval.reports.grid import Grid

GROUPS: dict[str, Callable[[BoardColumn], bool]] = {
    "Accuracy": lambda column: column.kind == "share",
    "Certified accuracy": lambda column: column.key.startswith(CERTIFIED),
    "Distance of the closest witness": lambda column: column.kind == "upper",
    "Exact distances": lambda column: column.key.startswith(EXACT),
    "Lower bounds": lambda column: column.kind == "radius",
    "Noise": lambda column: column.kind == "lower" and not column.key.startswith((CERTIFIED, EXACT)),
    "Cost": lambda column: column.kind == "cost",
}
"""Heading -> which columns stand below it."""
NOTE = (
    "With 95 % intervals over the images. Places: 1 + the number of models that are significantly better, to the "
    "number of those that are not significantly worse (exact paired tests on the same images, McNemar's for "
    "shares, 5 % over all pairs of a column by Holm's correction). Models whose places overlap are not told "
    "apart by these images."
)


def groups(board: Board) -> dict[str, list[BoardColumn]]:
    """The columns of each group that has any."""
    found = {title: list(filter(below, board.columns)) for title, below in GROUPS.items()}
    return {title: columns for title, columns in found.items() if columns}


def place(score: Score) -> str:
    """ "1", or "1 to 3" where it is tied; empty where the column is not ranked."""
    if score.rank is None or score.rank_last is None:
        return ""
    return str(score.rank) if score.rank == score.rank_last else f"{score.rank} to {score.rank_last}"


def cell(score: Score | None) -> list[str]:
    """Value, interval, place."""
    return ["-", "-", ""] if score is None else [score.shown, score.interval, place(score)]


def models_grid(board: Board) -> Grid:
    """What each model is, and how it was trained as far as its card says so."""
    rows = [[entry.model, entry.architecture or "-", entry.training or "-"] for entry in board.entries]
    return Grid("Models", ["Model", "architecture", "trained by"], rows, text=3, name="models")


def grids(board: Board) -> list[Grid]:
    """The models, then one table a column, models in the order of the board: value, interval, place, and who is tied
    with it."""
    found = [models_grid(board)]
    for columns in groups(board).values():
        for column in columns:
            rows = []
            for entry in board.entries:
                score = entry.scores.get(column.key)
                tied = "; ".join(score.ties) if score and score.ties else "-"
                rows.append([entry.model, *cell(score), tied])
            headings = ["Model", "value", "95 % interval", "place", "not significantly different from"]
            found.append(Grid(column.title, headings, rows, note=column.note, name=column.key))
    return found


def transfer(board: Board) -> list[Grid]:
    """How accurate each model stays under what was made on the others: one table an attack and budget."""
    shares = {
        ((t.attack, t.norm, t.budget), t.source, entry.model): show.percent(t.accuracy, Round.UP)
        for entry in board.entries
        for t in entry.transfer
    }
    models = [entry.model for entry in board.entries]
    found = []
    for at in dict.fromkeys(at for at, _, _ in shares):
        attack, norm, budget = at
        sources = dict.fromkeys(source for other, source, _ in shares if other == at)
        rows = [[source, *(shares.get((at, source, model), "-") for model in models)] for source in sources]
        title = f"{names.bare(attack, norm)}, {norm.symbol} {show.budget(budget)}"
        found.append(Grid(title, ["made on", *models], rows))
    return found
