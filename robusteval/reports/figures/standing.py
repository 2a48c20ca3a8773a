"""One bar a budget: what is known of the images there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from robusteval.analysis import names, show
from robusteval.analysis.show import Round
from robusteval.analysis.standing import Standing
from robusteval.reports.figures.drawing import GRID, INK, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "proven": ("proven right", "#00694c"),
    "open": ("neither proven nor broken", GRID),
    "broken": ("broken by an attack", "#b03a00"),
    "wrong": ("misclassified as they are", "#565d69"),
}
"""What can be said of an image at a budget: its name, and its colour, against which its number has 4.5 : 1 or more."""
ROUNDING = {"proven": Round.DOWN, "broken": Round.DOWN, "open": Round.UP}
"""Better methods can only make the first two larger and the third smaller; what is misclassified is known."""
LIGHT = "#fafafa"
"""Of numbers on a dark part."""
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
                    axes.text(x + width / 2, y, shown_share(part, width), ha="center", va="center", color=ink)
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


def shown_share(part: str, value: float) -> str:
    """A share of the images, rounded as its part asks for."""
    return show.percent(value, ROUNDING.get(part, Round.NEAREST))
