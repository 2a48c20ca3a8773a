"""The leaderboard: defenses audited with one protocol on the same images, ordered no finer than the images allow."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis.leaderboard.board import Board
from robusteval.analysis.leaderboard.compare import board_of, joined
from robusteval.analysis.results import Results
from robusteval.reports.leaderboard.write import read_board, write_board
from robusteval.results.run import Run

__all__ = ["Board", "leaderboard", "read_board", "write_board"]


def leaderboard(runs: Sequence[Run | Results], beside: Board | None = None) -> Board:
    """The board of some finished runs, and of the models of another board if there is one.

    Raises UserError where they cannot be compared, saying which run and what differs.
    """
    return joined([*([beside] if beside else []), *map(board_of, map(Results.of, runs))])
