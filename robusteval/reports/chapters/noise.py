"""Predictions kept under noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from robusteval.audit.run import Run
from robusteval.reports.chapters.base import Chapter, Stage, stages
from robusteval.reports.drawing import COLOURS, Plot, share_axis
from robusteval.reports.intervals import clopper_pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = {"kept": "all noisy copies keep it", "kept_single": "one copy with noise of that exact size keeps it"}


def plots(run: Run) -> list[Plot]:
    """Share of images whose prediction survives noise, against its standard deviation."""
    return [_kept(stage) for stage in stages(run, "gaussian-noise") if len(stage.measurements)]


def _kept(stage: Stage) -> Plot:
    rows = stage.measurements[stage.measurements["quantity"].isin(KEPT)]
    grouped = rows.groupby(["quantity", "at"], sort=True)["value"].agg(["sum", "count"]).reset_index()
    low, high = zip(
        *(map(float, clopper_pearson(s, n)) for s, n in zip(grouped["sum"], grouped["count"], strict=True)), strict=True
    )
    data = pd.DataFrame(
        {
            "quantity": grouped["quantity"],
            "sigma": grouped["at"],
            "share": grouped["sum"] / grouped["count"],
            "low": low,
            "high": high,
        }
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (quantity, label) in enumerate(KEPT.items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                axes.fill_between(curve["sigma"], curve["low"], curve["high"], color=COLOURS[i], alpha=0.15, lw=0)
                axes.plot(curve["sigma"], curve["share"], "os"[i] + "-", ms=3, lw=1.6, color=COLOURS[i], label=label)
        axes.set(xlabel="sigma, standard deviation of the noise (pixels in [0, 1])", ylabel="images that keep it")
        share_axis(axes)
        figure.legend(loc="outside lower center", ncols=2)

    caption = "Share of images whose clean prediction (right or wrong) survives noise, with its 95 % band."
    title = f"{stage.title}: predictions kept (Moments, figure 6)"
    return Plot(f"noise-{stage.label}", title, caption, data, draw)


CHAPTER = Chapter("gaussian-noise", "Noise", plots)
