"""One style for all figures, and how they are saved. Nothing global in matplotlib stays changed."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from robusteval.core.foreign import readable
from robusteval.core.forked import on_all_cores
from robusteval.core.plain_names import plain_name
from robusteval.results.below import as_csv, write_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2329", "#6b7280", "#d5d9df"
EXACT_COLOUR = "#7a3ea8"
"""Of a distance that is known, not enclosed; no other mark has it."""
_DARK = {
    INK: "#e6e8eb",
    FAINT: "#9aa3af",
    GRID: "#3a4048",
    "#0072b2": "#4aa3df",
    EXACT_COLOUR: "#b78be0",
    "#8c6d31": "#b8965a",
}
_PAPER = "#ffffff"
_DPI = 160
"""Of the PNG; the layout is that of the SVG."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31")
"""Okabe and Ito's palette, told apart by colour-blind readers, without its black and yellow."""
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # else matplotlib looks for a free place at each drawing; none of our titles needs it
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "robusteval",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn: its file name, title, what it shows, its data, and how to draw it."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[[Figure], None]
    height: float = 3.4
    width: float = 7.4


def save(plot: Plot, folder: Path) -> str:
    """Write <name>.svg, .png and .csv; return the SVG in a form that follows the reader's colour scheme."""
    ((_, themed),) = save_all([plot], folder)
    return themed


def save_all(
    plots: Sequence[Plot], folder: Path, each: Callable[[int], None] = lambda done: None
) -> list[tuple[Plot, str]]:
    """The same of each plot, drawn on all cores: the same bytes. `each` is told of every plot that is there."""
    # Before any process is forked, so that none has to import it.
    from matplotlib.backends import backend_agg, backend_svg  # noqa: F401

    themed = [""] * len(plots)
    for i, (forms, themed[i]) in on_all_cores(_drawn, plots):
        for form, content in forms.items():
            write_below(folder.parent, f"{folder.name}/{plain_name(plots[i].name)}.{form}", content)
        each(1)
    return list(zip(plots, themed, strict=True))


def _drawn(plot: Plot) -> tuple[dict[str, str | bytes], str]:
    """A plot as the content of its files, and as a page shows it."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name in letters that the font lacks: boxes are drawn.
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently")
        figure = Figure(figsize=(plot.width, plot.height))
        plot.draw(figure)
        # Each canvas draws once; figure.savefig draws twice for each format.
        vector: Any = FigureCanvasSVG(figure)
        vector.print_svg(svg, metadata={"Date": None})
        figure.set(layout_engine="none", dpi=_DPI)
        raster: Any = FigureCanvasAgg(figure)
        raster.draw()
    # Without the alpha channel, which is full, and with a fast compression: half the time, the same size.
    image = Image.fromarray(np.asarray(raster.buffer_rgba())).convert("RGB")
    image.save(png, "png", dpi=(_DPI, _DPI), compress_level=3)
    # Names stand in the SVG's comments, as they are.
    text = readable(svg.getvalue())
    return {"svg": text, "png": png.getvalue(), "csv": as_csv(plot.data)}, _adaptive(text)


@contextmanager
def drawn_on(ax: Axes | None, width: float = 6.4, height: float = 3.8) -> Iterator[Axes]:
    """The axes that a caller gave, or those of a new figure of pyplot in our style, which a notebook shows by itself.
    Text is drawn as it is: a dollar sign in a name begins no formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False} if ax is not None else _STYLE):
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(width, height))[1]
        yield ax


def style(i: int) -> tuple[str, str]:
    """Colour and dashes of the i-th line: no two of the first 28 alike."""
    return COLOURS[i % len(COLOURS)], DASHES[(i // len(COLOURS) + i % len(COLOURS)) % len(DASHES)]


def share_axis(axes: Axes) -> None:
    """A vertical axis of shares, as percentages from 0 to 100."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylim(-0.02, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def legend(figure: Figure, axes: Axes) -> None:
    """The names of all lines, below the axes, where they cover nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_columns(labels), handlelength=2.6)


def legend_height(labels: Collection[str]) -> float:
    """How much a legend of these labels adds to a figure's height, in inches."""
    return 0.19 * math.ceil(len(labels) / _columns(labels))


def _columns(labels: Collection[str]) -> int:
    """As many columns as fit a figure's width."""
    longest = max(map(len, labels), default=1)
    return 3 if longest <= 26 else 2 if longest <= 44 else 1


def _adaptive(svg: str) -> str:
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    )
    head, start, rest = svg.replace(f"fill: {_PAPER}", "fill: none").partition("<defs>")
    return f"{head}<style>@media (prefers-color-scheme:dark){{{rules}}}</style>{start}{rest}"
