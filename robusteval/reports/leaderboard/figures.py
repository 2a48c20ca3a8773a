"""The figures of a board: accuracy curves of all models, and clean against robust accuracy."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robusteval.analysis import names
from robusteval.analysis.curves import STEPS, curve
from robusteval.analysis.leaderboard.board import WORST, Board, BoardColumn
from robusteval.core.norms import Norm
from robusteval.reports.figures.drawing import COLOURS, FAINT, MARKERS, Plot, legend, legend_height, share_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANDS = 5
"""Of more models the bands would hide one another: they are in the data."""


def plots(board: Board) -> list[Plot]:
    far = {c.norm: c for c in board.columns if c.norm and c.key.startswith("median_")}
    ranked = [c for c in board.columns if c.key == WORST or c.robust]
    return [
        *(_curves(board, column, norm) for norm, column in far.items()),
        *([_trade_offs(board, ranked)] if ranked and len(board.entries) > 1 else []),
    ]


def _curves(board: Board, column: BoardColumn, norm: Norm) -> Plot:
    budget = max(board.protocol.budgets.get(norm, ()), default=0.0)
    lines = {e.model: curve(e.scores[column.key].images, limit=STEPS) for e in board.entries if column.key in e.scores}
    reached = np.concatenate([line["budget"] for line in lines.values()])
    end = max(1.5 * budget, 1.1 * float(np.quantile(reached, 0.9)), 1e-9)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (model, line) in enumerate(lines.items()):
            colour, dash = style(i)
            line = pd.concat([line, line.iloc[[-1]].assign(budget=end)])
            axes.step(line["budget"], line["share"], where="post", color=colour, ls=dash, lw=1.6, label=model)
            if len(lines) <= BANDS:
                axes.fill_between(line["budget"], line["low"], line["high"], step="post", color=colour, alpha=0.1, lw=0)
        axes.set(xlim=(0, end), xlabel=names.axis(norm), ylabel="images still right")
        share_axis(axes)
        legend(figure, axes)

    data = pd.concat([line.assign(model=model) for model, line in lines.items()], ignore_index=True)
    caption = (
        "Share of images that no perturbation found breaks, against its size, with its 95 % band: the closest witness "
        "of all attacks."
    )
    data = data.rename(columns={"budget": "distance"})[["model", "distance", "share", "low", "high"]]
    title = f"Accuracy against distance, {norm.symbol}"
    return Plot(f"curves-{norm}", title, caption, data, draw, 2.9 + legend_height(lines))


def _trade_offs(board: Board, columns: list[BoardColumn]) -> Plot:
    rows = [
        {"model": e.model, "against": c.title}
        | {f"clean_{k}": getattr(e.scores["clean"], k) for k in ("value", "low", "high")}
        | {f"robust_{k}": getattr(e.scores[c.key], k) for k in ("value", "low", "high")}
        for c in columns
        for e in board.entries
        if c.key in e.scores
    ]
    data, models = pd.DataFrame(rows), [e.model for e in board.entries]
    across = min(2, len(columns))
    down = -(-len(columns) // across)

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        panels = figure.subplots(down, across, squeeze=False).ravel()
        for panel in panels[len(columns) :]:
            panel.set_axis_off()
        for axes, column in zip(panels, columns, strict=False):
            for row in data[data["against"] == column.title].to_dict("records"):
                _point(axes, row, models.index(row["model"]))
            axes.set(title=column.title, xlabel="clean accuracy", ylabel="under attack, at most")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
                axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.margins(0.08)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)

    caption = "Each model's accuracy on the images themselves and under attack (at most), with 95 % intervals."
    height = 0.4 + 2.7 * down + legend_height(models)
    return Plot("trade-off", "Clean against robust accuracy", caption, data, draw, height)


def _point(axes: Axes, row: dict[Hashable, Any], i: int) -> None:
    x, y = row["clean_value"], row["robust_value"]
    look: Any = {"fmt": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)], "ecolor": FAINT, "ms": 6.5}
    axes.errorbar(
        [x],
        [y],
        xerr=[[x - row["clean_low"]], [row["clean_high"] - x]],
        yerr=[[y - row["robust_low"]], [row["robust_high"] - y]],
        elinewidth=0.9,
        capsize=2,
        label=row["model"],
        **look,
    )
