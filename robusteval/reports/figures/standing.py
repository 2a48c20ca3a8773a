"""One bar a budget: what is known of the images there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from robusteval.analysis import names, show
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing
from robusteval.reports.figures.drawing import FAINT, GRID, INK, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "proven": ("proven right", "#009e73"),
    "open": ("neither proven nor broken", GRID),
    "broken": ("broken by an attack", "#d55e00"),
    "wrong": ("misclassified as they are", FAINT),
}
"""What can be said of an image at a budget: its name, and its colour."""
AT_LEAST = ("proven", "broken")
"""Those that better methods can only make larger."""
LIGHT = "#fafafa"
"""Of numbers on a dark part. Pure white is the paper of a figure, which a page makes transparent."""
ROOM = 0.085
"""Of a bar: a narrower part has no room for its number."""


def standing_plot(found: Sequence[Standing]) -> list[Plot]:
    """One bar a budget, cut by what is known of the images; none without budgets."""
    if not found:
        return []
    counts = pd.DataFrame([vars(s) for s in found])
    n = int(counts[list(PARTS)].iloc[0].sum())
    labels = [names.at(s.norm, s.budget) for s in found]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        left = np.zeros(len(counts))
        at = np.arange(len(counts))
        for part, (title, colour) in PARTS.items():
            share = counts[part].to_numpy() / n
            axes.barh(at, share, left=left, height=0.62, color=colour, label=title)
            for y, (x, width) in enumerate(zip(left, share, strict=True)):
                if width >= ROOM:
                    ink = INK if part == "open" else LIGHT
                    rounding = Round.DOWN if part in AT_LEAST else Round.NEAREST
                    axes.text(x + width / 2, y, show.percent(width, rounding), ha="center", va="center", color=ink)
            left += share
        axes.set(xlim=(0, 1), yticks=at, yticklabels=labels)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        figure.legend(loc="outside lower left", ncols=len(PARTS), handlelength=1.1, columnspacing=1.4)

    caption = (
        "What is known of each image at a budget. The green share is proven to stay right, against any attack; the "
        "grey share withstood these attacks and may fall to others. Smoothed models and estimates have no part in this."
    )
    return [Plot("verdict", "What is known at each budget", caption, counts, draw, height=0.62 + 0.3 * len(found))]
