"""The figures of the metrics: predictions kept under noise, and the Jacobian's singular values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robusteval.audit.run import Run
from robusteval.reports import names
from robusteval.reports.drawing import COLOURS, Plot, share_axis
from robusteval.reports.intervals import clopper_pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOISE = {"kept": "all noisy copies keep it", "kept_single": "one copy with noise of that exact size keeps it"}
_SPECTRUM = {"singular_value": "at the images", "singular_value_adversarial": "at their witnesses"}


def noise(run: Run) -> list[Plot]:
    """Share of images whose prediction survives Gaussian noise, against its standard deviation."""
    return [_noise(*stage) for stage in _measured(run, "gaussian-noise", _NOISE)]


def _noise(stage: str, title: str, rows: pd.DataFrame) -> Plot:
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
        for i, (quantity, label) in enumerate(_NOISE.items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                axes.fill_between(curve["sigma"], curve["low"], curve["high"], color=COLOURS[i], alpha=0.15, lw=0)
                axes.plot(curve["sigma"], curve["share"], "os"[i] + "-", ms=3, lw=1.6, color=COLOURS[i], label=label)
        axes.set(xlabel="sigma, standard deviation of the noise (pixels in [0, 1])", ylabel="images that keep it")
        share_axis(axes)
        figure.legend(loc="outside lower center", ncols=2)

    caption = "Share of images whose clean prediction (right or wrong) survives noise, with its 95 % band."
    return Plot(f"noise-{stage}", f"{title}: predictions kept", caption, data, draw)


def spectrum(run: Run) -> list[Plot]:
    """Mean singular values of the penultimate features' Jacobian, against their rank."""
    return [_spectrum(*stage) for stage in _measured(run, "jacobian-spectrum", _SPECTRUM)]


def _spectrum(stage: str, title: str, rows: pd.DataFrame) -> Plot:
    grouped = rows.groupby(["quantity", "at"], sort=True)["value"].agg(["mean", "std", "count"]).reset_index()
    error = (grouped["std"] / np.sqrt(grouped["count"])).fillna(0.0)
    data = grouped.rename(columns={"at": "rank", "count": "images"}).assign(standard_error=error)

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for i, (quantity, label) in enumerate(_SPECTRUM.items()):
            curve = data[data["quantity"] == quantity]
            if len(curve):
                bars: Any = {"yerr": curve["standard_error"], "capsize": 2, "elinewidth": 1}
                axes.errorbar(
                    curve["rank"],
                    curve["mean"],
                    fmt="os"[i] + "-",
                    ms=3.5,
                    lw=1.4,
                    color=COLOURS[i],
                    label=label,
                    **bars,
                )
        axes.set(xlabel="rank", ylabel="singular value", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2)

    caption = (
        "How much the penultimate features stretch small changes of the pixels: mean singular value of their "
        "Jacobian, with its standard error over the images."
    )
    return Plot(f"spectrum-{stage}", title, caption, data, draw)


def _measured(run: Run, method: str, quantities: dict[str, str]) -> list[tuple[str, str, pd.DataFrame]]:
    """Label, title and finite rows of each stage of one metric, where it has any."""
    table, titles = run.table("measurements"), names.stages(run)
    chosen = table[table["quantity"].isin(quantities) & np.isfinite(table["value"])]
    stages = [s["name"] for s in run.stages("metric") if s["method"] == method and s["status"] == "done"]
    rows = {name: chosen[chosen["method"] == name] for name in stages}
    return [(name, titles[name], r) for name, r in rows.items() if len(r)]
