"""Second moments of perturbations: as matrices, and as functions of the displacement of two pixels."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robusteval.analysis import show
from robusteval.analysis.metrics.measured import MeasuredStage, measured_stages
from robusteval.analysis.results import Results
from robusteval.reports.chapters.base import Chapter
from robusteval.reports.figures.drawing import COLOURS, FAINT, INK, Plot, legend, legend_height, style
from robusteval.reports.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ZETAS = (1, 2, 4, 8)
"""Decay lengths of the long-range noise of SGR's figure 5."""
ENTRIES = 288
"""Of the middle half of a matrix so many rows are drawn at most, so that each is a dot: three rows of a CIFAR image."""
PANELS = 4
IMAGES = "images"
_RGB = ("#d55e00", "#009e73", "#0072b2")


def plots(results: Results) -> list[Plot]:
    found = measured_stages(results, "covariance")
    kept = [stage for stage in found if "perturbations" in stage.arrays]
    shape = results.manifest.model.input_shape
    matrices = [_perturbations(kept, shape), _long_range(kept[0], shape)] if kept else []
    return [
        *matrices,
        *(_functions(stage, shape[0]) for stage in found),
        *([_beside(found, shape[0])] if found else []),
    ]


def pairs(channels: int) -> list[tuple[int, int]]:
    """Of channels, each with itself and with those after it."""
    return list(combinations_with_replacement(range(channels), 2))


# Matrices


def _perturbations(found: list[MeasuredStage], shape: tuple[int, int, int]) -> Plot:
    panels = {stage.attack: _middle(stage.arrays["perturbations"], shape) for stage in found}
    caption = (
        "Raw second moments of the perturbations that fooled the images, and of the images less their mean image, "
        "each over its largest absolute value. " + _layout(shape)
    )
    title = "Second moments of perturbations and images (SGR, figure 1)"
    return _drawn("covariance-matrices", title, caption, panels | {IMAGES: _middle(found[0].arrays["images"], shape)})


def _long_range(stage: MeasuredStage, shape: tuple[int, int, int]) -> Plot:
    channel, row, column = np.unravel_index(_order(shape), shape)
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    factor = np.where(channel[:, None] == channel, 1.0, 0.5)
    panels = {f"zeta {zeta}": factor * np.exp(-distance / zeta) for zeta in ZETAS}
    caption = (
        "Covariance of SGR's long-range correlated noise, exp(-r / zeta) within a channel and half of that across, and "
        "that of the images. " + _layout(shape)
    )
    title = "Covariance of long-range noise and of the images (SGR, figure 5)"
    return _drawn("covariance-long-range", title, caption, panels | {IMAGES: _middle(stage.arrays["images"], shape)})


def _drawn(name: str, title: str, caption: str, panels: dict[str, NDArray[Any]]) -> Plot:
    across = min(len(panels), PANELS + 1)
    down = -(-len(panels) // across)
    rows = [pd.DataFrame(np.round(m, 3)).assign(matrix=label, row=range(len(m))) for label, m in panels.items()]
    data = pd.concat(rows, ignore_index=True)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (label, matrix) in zip(grid.flat, panels.items(), strict=False):
            drawn = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[], title=label)
            axes.grid(False)
            axes.spines[:].set_visible(False)
        bar = figure.colorbar(drawn, ax=grid, shrink=0.8, aspect=15, label="of the largest")
        bar.outline.set_visible(False)

    columns = ["matrix", "row", *(c for c in data.columns if isinstance(c, int))]
    side = min(2.6, 6.4 / across)
    return Plot(name, title, caption, data[columns], draw, 0.5 + down * (side + 0.1), min(7.4, 1.0 + across * side))


def _order(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """The entries of a matrix over (C, H, W) that are drawn: the pixel values row by row, a pixel's channels side by
    side, of these the middle half (as the paper's) and at most ENTRIES."""
    order = np.arange(np.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()
    side = min(max(1, len(order) // 2), ENTRIES)
    start = (len(order) - side) // 2
    return order[start : start + side]


def _middle(matrix: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    order = _order(shape)
    middle: NDArray[Any] = matrix[np.ix_(order, order)] / (np.abs(matrix).max() or 1.0)
    return middle


def _layout(shape: tuple[int, int, int]) -> str:
    side, whole = len(_order(shape)), int(np.prod(shape))
    part = "the middle half" if side == whole // 2 else f"the middle {side}"
    channels = " and a pixel's channels are side by side" if shape[0] > 1 else ""
    return f"Pixels follow row by row{channels}; drawn is {part} of the {whole:,} pixel values."


# Functions of the displacement


def function(stage: MeasuredStage, quantity: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Displacements and values of a quantity."""
    rows = stage.statistics[stage.statistics["quantity"] == quantity].sort_values("at")
    return rows["at"].to_numpy(), rows["value"].to_numpy()


def _scale(stage: MeasuredStage, channels: int, prefix: str = "") -> float:
    """The mean variance over the channels."""
    scale = float(np.mean([function(stage, f"{prefix}covariance_{c}_{c}")[1][0] for c in range(channels)]))
    return scale if scale > 0 else 1.0


def _within(stage: MeasuredStage, channels: int, prefix: str = "") -> pd.DataFrame:
    """The mean over the channels of the function within each, over its value at 0."""
    found = [function(stage, f"{prefix}covariance_{c}_{c}") for c in range(channels)]
    scale = _scale(stage, channels, prefix)
    return pd.DataFrame({"displacement": found[0][0], "covariance": np.mean([v for _, v in found], 0) / scale})


def _functions(stage: MeasuredStage, channels: int) -> Plot:
    scale = _scale(stage, channels)
    frames = []
    for c, d in pairs(channels):
        at, values = function(stage, f"covariance_{c}_{d}")
        errors = function(stage, f"covariance_error_{c}_{d}")[1]
        frames.append(
            pd.DataFrame({"channels": _pair(c, d, channels), "within": c == d, "displacement": at}).assign(
                covariance=values / scale, standard_error=errors / scale if len(errors) else np.nan
            )
        )
    data = pd.concat(frames, ignore_index=True)
    sides = [data[data["within"]], data[~data["within"]]] if channels > 1 else [data]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
        for axes, rows, title in zip(grid, sides, ("within a channel", "across channels"), strict=False):
            for i, (label, line) in enumerate(rows.groupby("channels", sort=False)):
                colours = _RGB if channels == 3 and line["within"].all() else COLOURS[::-1]
                _line(axes, line, colours[i % len(colours)], str(label))
            _decayed(axes)
            axes.set_xlabel("displacement (pixels)")
            if channels > 1:
                axes.set_title(title)
                axes.legend(loc="upper right")
        grid[0].set_ylabel("covariance, relative")

    caption = (
        f"Mean product of the perturbations of two pixels by {stage.attack}, against their distance, over the mean "
        "variance of a channel, with its standard error over the images. The dotted line is 1/e."
    )
    title = f"{stage.title} of {stage.attack} (SGR, figure 2)"
    return Plot(f"covariance-{stage.label}", title, caption, data.drop(columns="within"), draw)


def _line(axes: Axes, line: pd.DataFrame, colour: str, label: str) -> None:
    low, high = (line["covariance"] + s * line["standard_error"] for s in (-1, 1))
    axes.fill_between(line["displacement"], low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(line["displacement"], line["covariance"], "o-", ms=2.5, lw=1.3, color=colour, label=label)


def _decayed(axes: Axes) -> None:
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.axhline(np.exp(-1), color=FAINT, lw=0.9, ls=":")
    axes.set_xlim(0, None)


def _beside(found: list[MeasuredStage], channels: int) -> Plot:
    measured = {stage.attack: _within(stage, channels) for stage in found}
    measured[IMAGES] = _within(found[0], channels, "data_")
    at = np.linspace(0, measured[IMAGES]["displacement"].max(), 201)
    long_range = {
        f"long-range noise, zeta {zeta}": pd.DataFrame({"displacement": at, "covariance": np.exp(-at / zeta)})
        for zeta in ZETAS
    }
    lines = measured | long_range

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (label, line) in enumerate(lines.items()):
            colour, _ = style(i)
            look: Any = (
                {"ls": "-", "marker": "o", "ms": 2.5, "lw": 1.6} if label in measured else {"ls": "--", "lw": 1.1}
            )
            own = INK if label == IMAGES else FAINT if label in long_range else colour
            axes.plot(line["displacement"], line["covariance"], color=own, label=label, **look)
        for zeta in ZETAS:
            axes.annotate(f"{zeta}", (zeta, np.exp(-1)), color=FAINT, fontsize=8, ha="left", va="bottom")
        _decayed(axes)
        axes.set(xlabel="displacement (pixels)", ylabel="covariance, relative")
        legend(figure, axes)

    caption = (
        "Covariance within a channel, the mean over the channels, over its value at 0: of perturbations, of the images "
        "less their mean image, and of SGR's long-range correlated noise, exp(-r / zeta). The dotted line is 1/e: "
        "where a line crosses it is its decay length."
    )
    data = pd.concat([line.assign(line=label) for label, line in lines.items()], ignore_index=True)
    title = "Covariance functions of perturbations, images and long-range noise (SGR, sections 4.2 and 4.3)"
    columns = ["line", "displacement", "covariance"]
    return Plot("covariance-functions", title, caption, data[columns], draw, 3.0 + legend_height(lines))


def grids(results: Results) -> list[Grid]:
    channels = results.manifest.model.input_shape[0]
    rows = [
        [stage.attack, _pair(c, d, channels), f"{function(stage, 'perturbations')[1][0]:,.0f}"]
        + [_length(stage, f"{prefix}decay_length_{c}_{d}") for prefix in ("", "data_")]
        for stage in measured_stages(results, "covariance")
        for c, d in pairs(channels)
    ]
    note = (
        "Displacement in pixels at which the covariance has fallen to 1/e of its value at 0 (SGR, footnote 5); none "
        "where it does not within the image, or is not above 0 there."
    )
    headings = ["Attack", "channels", "witnesses", "decay length", "of the images"]
    return [Grid("Decay lengths (SGR, figures 1 and 2)", headings, rows, text=2, note=note)] if rows else []


def _length(stage: MeasuredStage, quantity: str) -> str:
    values = function(stage, quantity)[1]
    return show.fixed(values[0], 2) if len(values) else "none"


def _pair(c: int, d: int, channels: int) -> str:
    known = {1: ("grey",), 3: ("red", "green", "blue")}.get(channels, [str(i + 1) for i in range(channels)])
    return known[c] if c == d else f"{known[c]} and {known[d]}"


CHAPTER = Chapter("covariance", "Covariance of perturbations", plots, grids)
