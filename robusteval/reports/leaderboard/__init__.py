"""The leaderboard: defenses audited with one protocol on the same images, ordered no finer than the images allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robusteval.analysis.leaderboard.board import Board
from robusteval.analysis.leaderboard.compare import board_of, joined
from robusteval.analysis.results import Results
from robusteval.core.errors import UserError
from robusteval.reports.leaderboard.write import read_board, write_board
from robusteval.results.run import Run

__all__ = ["Board", "earlier_runs", "leaderboard", "read_board", "write_board"]


def leaderboard(runs: Sequence[Run | Results], beside: Board | None = None) -> Board:
    """The board of some finished runs, and of the models of another board if there is one.

    Raises UserError where they cannot be compared, saying which run and what differs.
    """
    return joined([*([beside] if beside else []), *map(board_of, map(Results.of, runs))])


def earlier_runs(board: Board, given: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs that the models of a board were read from, but for models that `given` has; and the paths of those that
    are no longer there, or hold another run."""
    known = {run.manifest.model.fingerprint for run in given}
    found: list[Run] = []
    gone: list[str] = []
    for entry in (e for e in board.entries if e.fingerprint not in known):
        try:
            run = Run.open(Path(entry.run))
        except UserError:
            gone.append(entry.run)
            continue
        of = run.manifest
        asked = (entry.fingerprint, board.protocol, board.data_fingerprint)
        if of.complete and (of.model.fingerprint, of.protocol, of.data.fingerprint) == asked:
            found.append(run)
        else:
            gone.append(entry.run)
    return found, gone
