"""Where the images stand: proven right, broken or open at each budget, and how wide their brackets are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from robusteval.reports import names, show
from robusteval.reports.curves import within
from robusteval.reports.drawing import FAINT, GRID, INK, Plot
from robusteval.reports.intervals import Median, median
from robusteval.reports.show import Round
from robusteval.tables import BALLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "proven": ("proven right", "#009e73"),
    "open": ("neither proven nor broken", GRID),
    "broken": ("turned by a witness", "#d55e00"),
    "wrong": ("misclassified as they are", FAINT),
}
"""What can be said of an image at a budget: its name, and its colour."""
Budgets = Mapping[str, Sequence[float]]
LIGHT = "#fafafa"
"""Of numbers on a dark part. Pure white is the paper of a figure, which a page makes transparent."""
ROOM = 0.085
"""Of a bar: a narrower part has no room for its number."""


@dataclass(frozen=True)
class Standing:
    """How many images are what at a budget; every image is counted once, a broken one never as proven."""

    norm: str
    budget: float
    proven: int
    open: int
    broken: int
    wrong: int


@dataclass(frozen=True)
class Width:
    """The distance from the largest proven radius (0 where nothing is proven) to the closest witness (infinite where
    none was found): its median over the images that are classified correctly."""

    norm: str
    median: Median


def standings(bounds: pd.DataFrame, budgets: Budgets) -> tuple[Standing, ...]:
    """At each budget of a protocol, from the table of bounds. Only proofs of the model itself count as proven."""
    wrong = ~bounds["correct"].to_numpy(bool)
    found = []
    for norm, values in budgets.items():
        proof = bounds[f"proof_{norm}"].to_numpy() if norm in BALLS else np.zeros(len(bounds))
        for budget in sorted(values):
            broken = ~wrong & within(bounds[f"upper_{norm}"], budget).to_numpy()
            proven = ~wrong & ~broken & (proof >= budget)
            rest = ~wrong & ~broken & ~proven
            found.append(Standing(norm, budget, *(int(x.sum()) for x in (proven, rest, broken, wrong))))
    return tuple(found)


def widths(bounds: pd.DataFrame, norms: Sequence[str]) -> tuple[Width, ...]:
    """In each of `norms` in which anything is proven. An image with an infinite radius and no witness has a bracket of
    width 0: nothing can turn it."""
    right = bounds[bounds["correct"]]
    return tuple(
        Width(norm, median((right[f"upper_{norm}"] - right[f"proof_{norm}"]).fillna(0.0)))
        for norm in norms
        if norm in BALLS and (right[f"proof_{norm}"] > 0).any()
    )


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
                    rounding = Round.DOWN if part == "proven" else Round.NEAREST
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
