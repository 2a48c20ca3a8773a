"""A leaderboard as matplotlib axes, for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robusteval.analysis import names
from robusteval.analysis.leaderboard.board import WORST, Board
from robusteval.core.errors import UserError
from robusteval.reports.figures.drawing import COLOURS, FAINT, MARKERS, drawn_on, share_axis
from robusteval.reports.figures.steps import draw_steps, norm_named, reach_of, unbroken
from robusteval.results.records import CLEAN

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_board(board: Board, ax: Axes | None = None) -> Axes:
    """A leaderboard: one line a model, the best at the top; clean accuracy and robust accuracy (at most) at each
    budget, with 95 % intervals."""
    from matplotlib.ticker import PercentFormatter

    columns = [c for c in board.columns if c.key in (CLEAN, WORST) or c.robust]
    with drawn_on(ax, height=1.6 + 0.35 * len(board.entries) + 0.1 * len(columns)) as axes:
        for i, column in enumerate(columns):
            shift = 0.5 * (i - (len(columns) - 1) / 2) / len(columns)
            rows = [(k + shift, e.scores[column.key]) for k, e in enumerate(board.entries) if column.key in e.scores]
            value = np.array([score.value for _, score in rows])
            spread = [value - [score.low for _, score in rows], [score.high for _, score in rows] - value]
            look: Any = {"fmt": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)], "ecolor": FAINT}
            axes.errorbar(value, [y for y, _ in rows], xerr=spread, elinewidth=0.9, ms=5, label=column.title, **look)
        axes.set(yticks=range(len(board.entries)), yticklabels=[e.model for e in board.entries], xlim=(-0.02, 1.02))
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("images right")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize="small")
        return axes


def plot_board_curves(board: Board, norm: str, ax: Axes | None = None) -> Axes:
    """Accuracy of each model of a leaderboard against the distance of its closest witnesses in `norm`, at most. Raises
    UserError in a norm that was not attacked."""
    asked = norm_named(norm)
    key = f"median_{asked}"
    lines = {e.model: np.array(e.scores[key].images) for e in board.entries if key in e.scores}
    if not lines:
        raise UserError(f"expected a norm in which the models were attacked, got {norm}")
    end = reach_of(np.concatenate(list(lines.values())), board.protocol.budgets.get(asked, ()))
    with drawn_on(ax) as axes:
        for i, (model, far) in enumerate(lines.items()):
            draw_steps(axes, unbroken(far, end), model, i)
        axes.set(xlim=(0, end), xlabel=names.axis(norm), ylabel="images right, at most")
        share_axis(axes)
        axes.legend()
        return axes
