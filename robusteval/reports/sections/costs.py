"""The table of what each stage took."""

from __future__ import annotations

from collections.abc import Sequence

from robusteval.analysis import show
from robusteval.analysis.costs import StageCost
from robusteval.reports.grid import Grid


def cost_grid(stages: Sequence[StageCost]) -> Grid:
    """What each stage that ran took."""
    rows = [
        [
            c.title,
            c.kind,
            show.count(c.forwards),
            show.count(c.backwards),
            show.seconds(c.seconds),
            show.percent(c.share_of_time),
            "-" if c.outside is None else show.percent(c.outside),
        ]
        for c in stages
        if c.available
    ]
    headings = ["Method", "kind", "forwards an image", "backwards an image", "time", "share of time"]
    note = (
        "Evaluations of the model an image, forward and backward, averaged over all images. Outside the model: the "
        "share of a method's time that went neither into a forward nor into a backward pass, its own overhead; all of "
        "it where a proof is carried through the layers."
    )
    return Grid("Cost of each method", [*headings, "outside the model"], rows, text=2, note=note)
