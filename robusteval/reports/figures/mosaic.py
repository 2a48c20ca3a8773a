"""Small images in rows and columns, with titles beside and numbers below them, for figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robusteval.reports.figures.drawing import COLOURS, GRID, INK
from robusteval.reports.figures.thumbnails import small

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 10
"""Of more images side by side the numbers below them would overlap."""
MARK = COLOURS[1]
_WIDTH, _LETTER, _LARGEST = 7.1, 0.075, 0.95
"""Inches: of the figure, of a letter of a title, and the largest side of an image."""
_PIXELS = 100
"""An inch: larger images are reduced."""
_GAP = 0.07
"""Between images, relative to their side."""
_NOTE, _LINE = 0.08, 0.12
"""Inches around what stands below an image, and for each of its lines."""
_TITLES, _AXIS = 0.35, 0.2
"""Inches for the titles of the columns, and for that of their axis."""
LONGEST = 16
"""Letters of a title."""


@dataclass(frozen=True)
class Tile:
    """An image (C, H, W) in [0, 1], what stands below it (lines of text), and whether it has a coloured frame."""

    image: NDArray[Any]
    note: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Mosaic:
    """Rows of tiles (None leaves a place empty) with a title for each row and column, and for the axes."""

    tiles: Sequence[Sequence[Tile | None]]
    rows: Sequence[str]
    columns: Sequence[str]
    row_axis: str = ""
    column_axis: str = ""

    @property
    def width(self) -> float:
        """Of all columns together, inches: what the titles of the rows leave."""
        return _WIDTH - _LETTER * longest(self.rows) - _AXIS * bool(self.row_axis)

    @property
    def side(self) -> float:
        """Of an image with its gap, inches."""
        return min(_LARGEST, self.width / len(self.columns))

    @property
    def tops(self) -> list[float]:
        """Where each row begins and the last one ends, in sides."""
        lines = (max((t.note.count("\n") + 1 for t in row if t and t.note), default=0) for row in self.tiles)
        return [*accumulate((1 + (_NOTE + _LINE * n) / self.side * (n > 0) for n in lines), initial=0.0)]

    @property
    def turned(self) -> bool:
        """Whether the titles of the columns need more room than an image is wide."""
        return _LETTER * longest(self.columns) > self.side

    @property
    def height(self) -> float:
        """Of the figure, inches."""
        titles = _TITLES + _AXIS * bool(self.column_axis) + 0.6 * self.turned
        return self.tops[-1] * self.side + titles

    def draw(self, figure: Figure) -> None:
        from matplotlib.patches import Rectangle

        axes, tops = figure.subplots(), self.tops
        for row, top in zip(self.tiles, tops, strict=False):
            for left, tile in enumerate(row):
                if tile is None:
                    continue
                right, bottom = left + 1 - _GAP, top + 1 - _GAP
                # "none" keeps the pixels as they are in SVG; elsewhere it is the same as "nearest".
                pixels = np.asarray(small(tile.image, round(_PIXELS * self.side)).convert("RGB"))
                axes.imshow(pixels, extent=(left, right, bottom, top), interpolation="none")
                line: Any = {"ec": MARK, "lw": 1.8} if tile.marked else {"ec": GRID, "lw": 0.6}
                axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **line))
                place: Any = {"ha": "center", "va": "top", "fontsize": 6.5, "color": INK}
                axes.text((left + right) / 2, bottom + 0.04, tile.note, **place)
        middle = (1 - _GAP) / 2
        place = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if self.turned else {}
        axes.set_xticks([j + middle for j in range(len(self.columns))], list(map(short, self.columns)), **place)
        axes.set_yticks([top + middle for top in tops[:-1]], list(map(short, self.rows)))
        axes.set_xlabel(self.column_axis, loc="left")
        axes.set_ylabel(self.row_axis, loc="top")
        axes.set_aspect("equal")
        axes.set_xlim(-_GAP, max(self.width / self.side, len(self.columns)))
        axes.set_ylim(tops[-1], -_GAP)
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)


def short(title: str, letters: int = LONGEST) -> str:
    """A title of at most so many letters."""
    return title if len(title) <= letters else f"{title[: letters - 1]}…"


def longest(titles: Sequence[str]) -> int:
    """Letters of the longest title, as it is shown."""
    return max(map(len, map(short, titles)), default=0)
